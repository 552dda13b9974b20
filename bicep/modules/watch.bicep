// What shows the feed in Azure, each part where it belongs: the app's own resource group, or that of
// Sentinel's workspace, which may be in another subscription.

import { alertChanges as alertChangeMap, rulePlan, watchPlan } from '../types.bicep'

@description('What is watched.')
param plan watchPlan

@description('Resource id of Sentinel\'s workspace, split at its slashes.')
param sentinelWorkspace string[]

@description('Make the alerts.')
param createAlerts bool

@description('What differs for an alert, by its name.')
param alertChanges alertChangeMap

@description('Make incidents in Sentinel of the alerts.')
param alertsInSentinel bool

@description('Resource ids of the action groups that alerts go to.')
param actionGroupIds string[]

@description('Make the workbook of the pipeline\'s health.')
param createHealthWorkbook bool

@description('Make the workbook of the indicators.')
param createIndicatorsWorkbook bool

@description('The rules and hunting queries.')
param rules rulePlan

module alerts 'alerts.bicep' = if (createAlerts && !alertsInSentinel) {
  params: { plan: plan, changes: alertChanges, sentinelWorkspaceName: '', actionGroupIds: actionGroupIds }
}

module incidents 'alerts.bicep' = if (createAlerts && alertsInSentinel) {
  scope: resourceGroup(sentinelWorkspace[2], sentinelWorkspace[4])
  params: { plan: plan, changes: alertChanges, sentinelWorkspaceName: sentinelWorkspace[8], actionGroupIds: [] }
}

module healthWorkbook 'health-workbook.bicep' = if (createHealthWorkbook) {
  params: { plan: plan }
}

module indicatorsWorkbook 'indicators-workbook.bicep' = if (createIndicatorsWorkbook) {
  scope: resourceGroup(sentinelWorkspace[2], sentinelWorkspace[4])
  params: { plan: plan, workspaceName: sentinelWorkspace[8], daysWithoutEnd: rules.daysWithoutEnd }
}

module matching 'rules.bicep' = if (rules.create) {
  scope: resourceGroup(sentinelWorkspace[2], sentinelWorkspace[4])
  params: { workspaceName: sentinelWorkspace[8], appName: plan.appName, plan: rules }
}
