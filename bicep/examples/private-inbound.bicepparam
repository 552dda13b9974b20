// No public address at all: operators and publishing come from inside the network.
using '../main.bicep'

param cloud = 'AzureCloud'
param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param sentinelWorkspaceResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel'
param alertEmail = 'soc@example.com'
param tags = {
  owner: 'soc'
}

param privateInbound = true
