// Into a spoke whose DNS is central: the private DNS zones are in the hub's subscription and the
// spoke resolves through them already. The deployer needs Private DNS Zone Contributor there. The
// app has no public address; operators and publishing come from inside the network.
using '../main.bicep'

param functionNamePrefix = 'lumenfeed'
param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param sentinelWorkspaceResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel'

param createVirtualNetwork = false
param virtualNetworkName = 'corp-spoke-vnet'
param virtualNetworkResourceGroup = 'corp-network'
param functionSubnetName = 'snet-lumen-functions'
param endpointSubnetName = 'snet-private-endpoints'
param privateInbound = true

param createPrivateDnsZones = false
param blobDnsZoneId = '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.blob.core.windows.net'
param queueDnsZoneId = '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.queue.core.windows.net'
param tableDnsZoneId = '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.table.core.windows.net'
param fileDnsZoneId = '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.file.core.windows.net'
param vaultDnsZoneId = '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net'
param sitesDnsZoneId = '/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/hub-dns/providers/Microsoft.Network/privateDnsZones/privatelink.azurewebsites.net'
