// Private endpoints, and the private DNS zones that answer for them: new ones, existing ones, or
// none where a policy of the company makes the entries.

import { endpointPart, endpointPlan, names as nameMap, place as placeType } from '../types.bicep'

@description('Region and tags.')
param place placeType

@description('Names of what is made.')
param names nameMap

@description('What the endpoints have in common.')
param plan endpointPlan

@description('What the endpoints lead to.')
param parts endpointPart[]

var places = loadJsonContent('../clouds.json')[plan.cloud]
var zoneNames = {
  blob: 'privatelink.blob.${places.storageSuffix}'
  queue: 'privatelink.queue.${places.storageSuffix}'
  table: 'privatelink.table.${places.storageSuffix}'
  file: 'privatelink.file.${places.storageSuffix}'
  vault: places.vaultZone
  sites: places.sitesZone
}
var accountId = resourceId('Microsoft.Storage/storageAccounts', names.account)
var targets = {
  blob: accountId
  queue: accountId
  table: accountId
  file: accountId
  vault: resourceId('Microsoft.KeyVault/vaults', names.vault)
  sites: resourceId('Microsoft.Web/sites', names.app)
}

module zones 'private-dns-zone.bicep' = [
  for part in (plan.privateDns == 'create' ? parts : []): {
    params: {
      zoneName: zoneNames[part]
      virtualNetworkId: plan.networkId
      fallBackToInternet: plan.isShared
      place: place
    }
  }
]

// One after the other: side by side on one account or subnet they fail at random.
@batchSize(1)
module endpoints 'private-endpoint.bicep' = [
  for part in parts: {
    params: {
      endpointName: '${names.app}-${part}-pe'
      place: place
      subnetId: plan.subnetId
      targetId: targets[part]
      groupId: part
      dnsZoneId: plan.privateDns == 'create'
        ? resourceId('Microsoft.Network/privateDnsZones', zoneNames[part])
        : plan.privateDns == 'existing' ? plan.zoneIds![part]! : ''
    }
    dependsOn: [zones]
  }
]
