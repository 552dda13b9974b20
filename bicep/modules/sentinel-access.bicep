// The right to upload: Microsoft Sentinel Contributor on the workspace, which may be in another
// resource group or subscription; this module is deployed to wherever that is.

@description('Name of the Log Analytics workspace that Sentinel runs on.')
param workspaceName string

@description('Object id of who uploads: the app\'s identity, or the application\'s service principal.')
param principalId string

var microsoftSentinelContributor = 'ab8e14d6-4a74-4a29-9ba8-549422addade'

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

// threat-intelligence-stix-objects:upload, the one call that the pipeline makes to Sentinel.
resource contributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: workspace
  name: guid(workspace.id, principalId, microsoftSentinelContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', microsoftSentinelContributor)
  }
}
