// One private DNS zone, linked to the network whose names it answers.

import { place as placeType } from '../types.bicep'

@description('Name of the zone, for example privatelink.blob.core.windows.net.')
param zoneName string

@description('Resource id of the virtual network that resolves names in the zone.')
param virtualNetworkId string

@description('Ask public DNS for what the zone does not hold: for a network that others use, too.')
param fallBackToInternet bool

@description('Region and tags.')
param place placeType

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: zoneName
  location: 'global'
  tags: place.tags
}

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = {
  parent: zone
  // In lower case: the portal and people write ids differently, and a network takes one link to a zone.
  name: 'link-${uniqueString(toLower(virtualNetworkId))}'
  location: 'global'
  tags: place.tags
  properties: {
    registrationEnabled: false
    // Else other accounts with private endpoints elsewhere would not be found from this network.
    resolutionPolicy: fallBackToInternet ? 'NxDomainRedirect' : 'Default'
    virtualNetwork: { id: virtualNetworkId }
  }
}
