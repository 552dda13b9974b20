// One private DNS zone, linked to the network whose names it answers.

@description('Name of the zone, for example privatelink.blob.core.windows.net.')
param zoneName string

@description('Resource id of the virtual network that resolves names in the zone.')
param virtualNetworkId string

@description('Tags of every resource.')
param tags object

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: zoneName
  location: 'global'
  tags: tags
}

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = {
  parent: zone
  name: 'link-${uniqueString(virtualNetworkId)}'
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: virtualNetworkId
    }
  }
}

@description('Resource id of the zone.')
output zoneId string = zone.id
