// Telemetry, and who is alerted: a Log Analytics workspace of the pipeline's own unless one is named,
// as telemetry in Sentinel's would be billed at Sentinel's price and be mixed with evidence;
// Application Insights, which takes Entra tokens only; the action group of the alerts.

import { names as nameMap, place as placeType } from '../types.bicep'

@description('Region and tags.')
param place placeType

@description('Names of what is made.')
param names nameMap

@description('Make a Log Analytics workspace.')
param createWorkspace bool

@description('Name of the action group.')
param actionGroupName string

@description('E-mail address that alerts go to; empty: no action group is made.')
param emailAddress string

var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: names.identity
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = if (createWorkspace) {
  name: last(split(names.logWorkspaceId, '/'))
  location: place.location
  tags: place.tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 30
  }
}

resource component 'Microsoft.Insights/components@2020-02-02' = {
  name: names.component
  location: place.location
  tags: place.tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    DisableLocalAuth: true
    IngestionMode: 'LogAnalytics'
    WorkspaceResourceId: names.logWorkspaceId
  }
  dependsOn: [workspace]
}

// Telemetry of host and worker: without local authentication it is refused without this role.
resource publisher 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: component
  name: guid(component.id, identity.id, monitoringMetricsPublisher)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
  }
}

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(emailAddress)) {
  name: actionGroupName
  location: 'global'
  tags: place.tags
  properties: {
    enabled: true
    groupShortName: 'lumen-feed'
    emailReceivers: [{ name: 'operators', emailAddress: emailAddress, useCommonAlertSchema: true }]
  }
}
