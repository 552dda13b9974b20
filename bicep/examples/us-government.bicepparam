// Everything new in Azure US Government. The template takes the places of Entra, Sentinel and DNS
// from the cloud it is deployed in; naming it here makes a wrong one fail early. Rolling updates
// are a preview there may not be: stop and start instead.
using '../main.bicep'

param functionNamePrefix = 'lumenfeed'
param location = 'usgovvirginia'
param cloud = 'AzureUSGovernment'
param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param sentinelWorkspaceResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel'
param siteUpdateStrategy = 'Recreate'
param alertEmail = 'soc@example.com'
