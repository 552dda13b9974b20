// One private endpoint and its entry in a private DNS zone: without the entry, no name leads to the
// endpoint. Where Azure Policy makes the entry, no zone is named.

import { endpointPart, place as placeType } from '../types.bicep'

@description('Name of the endpoint.')
param endpointName string

@description('Region and tags.')
param place placeType

@description('Resource id of the subnet that the endpoint takes its address from.')
param subnetId string

@description('Resource id of what the endpoint leads to.')
param targetId string

@description('Part of the target.')
param groupId endpointPart

@description('Resource id of the private DNS zone that answers for the target; empty: a policy makes the entry.')
param dnsZoneId string

resource endpoint 'Microsoft.Network/privateEndpoints@2024-07-01' = {
  name: endpointName
  location: place.location
  tags: place.tags
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      {
        name: endpointName
        properties: { privateLinkServiceId: targetId, groupIds: [groupId] }
      }
    ]
  }
}

resource zoneGroup 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-07-01' = if (!empty(dnsZoneId)) {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: groupId
        properties: { privateDnsZoneId: dnsZoneId }
      }
    ]
  }
}
