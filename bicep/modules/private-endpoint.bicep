// One private endpoint and its entry in a private DNS zone: an endpoint without the entry is an
// address that nobody asks for.

@description('Name of the endpoint.')
param endpointName string

@description('Region of the endpoint: that of its subnet.')
param location string

@description('Tags of every resource.')
param tags object

@description('Resource id of the subnet that the endpoint takes its address from.')
param subnetId string

@description('Resource id of what the endpoint leads to.')
param targetId string

@description('Part of the target: blob, queue, table, file, vault or sites.')
@allowed(['blob', 'queue', 'table', 'file', 'vault', 'sites'])
param groupId string

@description('Resource id of the private DNS zone that answers for the target.')
param dnsZoneId string

resource endpoint 'Microsoft.Network/privateEndpoints@2024-07-01' = {
  name: endpointName
  location: location
  tags: tags
  properties: {
    subnet: {
      id: subnetId
    }
    privateLinkServiceConnections: [
      {
        name: endpointName
        properties: {
          privateLinkServiceId: targetId
          groupIds: [
            groupId
          ]
        }
      }
    ]
  }
}

resource zoneGroup 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-07-01' = {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: groupId
        properties: {
          privateDnsZoneId: dnsZoneId
        }
      }
    ]
  }
}
