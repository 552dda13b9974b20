// Everything new in Azure US Government.
//
// Look first, in that cloud, whether it can be (docs/deploy.md, In US Government): Flex Consumption
// was not there in June 2026, nor version 2024-11-01 of Microsoft.Web in August 2025 (read
// 2026-11-22: polymind-inc/acmebot#1102, Azure/azure-cli#31916).
//   az functionapp list-flexconsumption-locations -o table
//   az provider show -n Microsoft.Web --query "resourceTypes[?resourceType=='sites'].apiVersions | [0]"
using '../main.bicep'

param cloud = 'AzureUSGovernment'
param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param sentinelWorkspaceResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel'
param alertEmail = 'soc@example.com'
param tags = {
  owner: 'soc'
}

param location = 'usgovvirginia'
