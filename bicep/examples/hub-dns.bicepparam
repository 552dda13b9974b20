// Into a spoke whose DNS is central: the private DNS zones are in the hub's subscription and the
// spoke resolves through them already. The deployer needs Private DNS Zone Contributor there.
using '../main.bicep'

param cloud = 'AzureCloud'
param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param sentinelWorkspaceResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel'
param alertEmail = 'soc@example.com'
param tags = {
  owner: 'soc'
}

param virtualNetworkResourceId = '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/corp-network/providers/Microsoft.Network/virtualNetworks/corp-spoke-vnet'
param functionSubnetName = 'snet-lumen-functions'
param endpointSubnetName = 'snet-private-endpoints'

param privateDns = 'existing'
param privateDnsZoneIds = {
  blob: '/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.blob.core.windows.net'
  queue: '/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.queue.core.windows.net'
  table: '/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.table.core.windows.net'
  file: '/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.file.core.windows.net'
  vault: '/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net'
}
