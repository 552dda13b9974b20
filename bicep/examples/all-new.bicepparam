// Everything new in one resource group; the app's managed identity uploads, so there is no client
// secret. The Lumen key comes from the environment: LUMEN_API_KEY.
using '../main.bicep'

param cloud = 'AzureCloud'
param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param sentinelWorkspaceResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel'
param alertEmail = 'soc@example.com'
param tags = {
  owner: 'soc'
}
