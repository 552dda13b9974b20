// Into a network that exists, here in another subscription, with DNS zones of our own. The function
// subnet must be delegated to Microsoft.App/environments and be used by nothing else.
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
