// Into a spoke of a landing zone where Azure Policy writes the DNS entries of private endpoints and
// denies zones of one's own. The entries may come minutes later: publish the code afterwards.
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

param privateDns = 'policy'
