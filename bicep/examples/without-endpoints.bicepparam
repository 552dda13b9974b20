// Without private endpoints, which are most of the monthly price: storage and vault are closed to
// the internet, and let in the function subnet alone, by its service endpoints. Shared keys stay off.
using '../main.bicep'

param cloud = 'AzureCloud'
param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param sentinelWorkspaceResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel'
param alertEmail = 'soc@example.com'
param tags = {
  owner: 'soc'
}

param usePrivateEndpoints = false
