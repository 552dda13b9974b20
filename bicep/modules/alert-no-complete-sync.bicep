// Fires when no sync run was complete for 45 minutes, three ticks of the timer. It asks for the
// success that is missing: a timer that stopped without a word writes no error.

@description('Name of the alert rule.')
param alertName string

@description('Region of the alert rule.')
param location string

@description('Tags of every resource.')
param tags object

@description('Resource id of the Application Insights component whose log is asked.')
param componentId string

@description('Resource ids of the action groups that are told.')
param actionGroupIds array

var completeRuns = 'traces | where message startswith "sync-complete " | summarize completeRuns = count()'

resource alert 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: alertName
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Lumen feed: no complete sync run in 45 minutes'
    description: 'Indicators are not arriving. See docs/runbook.md: Nothing has been complete for 45 minutes.'
    enabled: true
    severity: 1
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT45M'
    criteria: {
      allOf: [
        {
          query: completeRuns
          metricMeasureColumn: 'completeRuns'
          timeAggregation: 'Total'
          operator: 'LessThan'
          threshold: 1
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    autoMitigate: true
    skipQueryValidation: true
    actions: {
      actionGroups: actionGroupIds
    }
  }
}
