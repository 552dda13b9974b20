// Telemetry and the alert: a Log Analytics workspace of the pipeline's own unless one is named, as
// telemetry in Sentinel's would be billed at Sentinel's price and be mixed with evidence;
// Application Insights, which takes Entra tokens only; the rule that misses a complete sync run.

import { names as nameMap, place as placeType } from '../types.bicep'

@description('Region and tags.')
param place placeType

@description('Names of what is made.')
param names nameMap

@description('Make a Log Analytics workspace.')
param createWorkspace bool

@description('Make the alert rule.')
param createAlert bool

@description('E-mail address that the alert goes to; empty: no action group is made.')
param emailAddress string

@description('Resource ids of existing action groups that the alert goes to.')
param actionGroupIds string[]

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

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = if (createAlert && !empty(emailAddress)) {
  name: '${names.app}-operators'
  location: 'global'
  tags: place.tags
  properties: {
    enabled: true
    groupShortName: 'lumen-feed'
    emailReceivers: [{ name: 'operators', emailAddress: emailAddress, useCommonAlertSchema: true }]
  }
}

// It asks for the success that is missing: a timer that stopped without a word writes no error.
resource alert 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = if (createAlert) {
  name: '${names.app}-no-progress'
  location: place.location
  tags: place.tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Lumen feed: no sync run came further in 45 minutes'
    description: 'Indicators are not arriving. See docs/runbook.md: No progress for 45 minutes.'
    enabled: true
    severity: 1
    scopes: [component.id]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT45M'
    criteria: {
      allOf: [
        {
          query: trim(loadTextContent('../kql/progress.kql'))
          metricMeasureColumn: 'ticks'
          timeAggregation: 'Total'
          operator: 'LessThan'
          threshold: 1
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    autoMitigate: true
    skipQueryValidation: true
    actions: { actionGroups: concat(actionGroupIds, empty(emailAddress) ? [] : [actionGroup.id]) }
  }
}
