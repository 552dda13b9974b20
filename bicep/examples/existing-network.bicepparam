// Into a network that exists, with DNS zones of our own. The function subnet must be delegated to
// Microsoft.App/environments and be used by nothing else. Here an Entra application uploads, as
// where managed identities may not have roles in Sentinel: CLIENT_SECRET in the environment.
using '../main.bicep'

param functionNamePrefix = 'lumenfeed'
param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param lumenConfidenceThreshold = 75
param sentinelWorkspaceResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel'

param applicationClientId = '11111111-1111-1111-1111-111111111111'
param applicationPrincipalId = '22222222-2222-2222-2222-222222222222'
param applicationClientSecret = readEnvironmentVariable('CLIENT_SECRET', '')

param createVirtualNetwork = false
param virtualNetworkName = 'corp-spoke-vnet'
param virtualNetworkResourceGroup = 'corp-network'
param functionSubnetName = 'snet-lumen-functions'
param endpointSubnetName = 'snet-private-endpoints'
