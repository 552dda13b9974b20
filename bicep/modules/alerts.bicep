// The alerts, one list: each is a query that finds a row when an operator should look. They are made
// as alert rules of Azure Monitor, which mail; or as analytic rules of Sentinel, which make incidents.

import { alertChange, alertChanges, watchPlan } from '../types.bicep'

@description('Region and tags of the alert rules, the app they are about, and when it runs.')
param plan watchPlan

@description('What differs from the list below, by the name of an alert.')
param changes alertChanges

@description('Name of Sentinel\'s workspace, for analytic rules; empty: alert rules are made.')
param sentinelWorkspaceName string

@description('Resource ids of the action groups that alert rules go to.')
param actionGroupIds string[]

// How far apart ticks are, in minutes. What is not known counts as an hour or a day: an alert that
// comes later is better than one that is false.
var minuteSteps = {
  '*': 1
  '*/1': 1
  '*/2': 2
  '*/3': 3
  '*/4': 4
  '*/5': 5
  '*/6': 6
  '*/10': 10
  '*/12': 12
  '*/15': 15
  '*/20': 20
  '*/30': 30
}
var hourSteps = { '*': 1, '*/1': 1, '*/2': 2, '*/3': 3, '*/4': 4, '*/6': 6, '*/8': 8, '*/12': 12 }
var fields = filter(split(plan.schedule, ' '), field => !empty(field))
var minute = fields[?1] ?? ''
var hour = fields[?2] ?? ''
var everyDay = join(skip(fields, 3), ' ') == '* * *'
var tickMinutes = !everyDay ? 2880 : hour == '*' ? (minuteSteps[?minute] ?? 60) : 60 * (hourSteps[?hour] ?? 24)

// Three ticks, as the app itself judges: one late run is no alarm, three missing ones are. Azure
// Monitor reads at most two days (learn.microsoft.com/azure/azure-monitor/alerts, read 2026-11-29).
var windows = [
  { minutes: 45, duration: 'PT45M' }
  { minutes: 60, duration: 'PT1H' }
  { minutes: 120, duration: 'PT2H' }
  { minutes: 180, duration: 'PT3H' }
  { minutes: 240, duration: 'PT4H' }
  { minutes: 300, duration: 'PT5H' }
  { minutes: 360, duration: 'PT6H' }
  { minutes: 1440, duration: 'P1D' }
  { minutes: 2880, duration: 'P2D' }
]
var wide = filter(windows, window => window.minutes >= 3 * tickMinutes)
var threeTicks = (empty(wide) ? last(windows) : wide[0]).duration
var anHour = threeTicks == 'PT45M' ? 'PT1H' : threeTicks

// Severity as Azure Monitor counts it: 1 is an error, 2 a warning, 3 information.
var all = [
  {
    name: 'no-progress'
    title: 'no sync run came further in three ticks'
    what: 'Indicators are not arriving. See docs/runbook.md: No progress for 45 minutes.'
    query: loadTextContent('../kql/log/alerts/no-progress.kql')
    severity: 1
    window: threeTicks
  }
  {
    name: 'gap'
    title: 'a run has a gap'
    what: 'Indicators that Lumen listed may be missing. See docs/runbook.md: A run has a gap.'
    query: loadTextContent('../kql/log/alerts/gap.kql')
    severity: 2
    window: threeTicks
  }
  {
    name: 'books'
    title: 'the books do not balance'
    what: 'The counts of a run do not add up. See docs/runbook.md: The books do not balance.'
    query: loadTextContent('../kql/log/alerts/books.kql')
    severity: 1
    window: threeTicks
  }
  {
    name: 'problem'
    title: 'a problem has been open for 15 minutes'
    what: 'The feed waits, and nothing is given up for it. See docs/runbook.md: A problem is open.'
    query: loadTextContent('../kql/log/alerts/problem.kql')
    severity: 1
    window: threeTicks
  }
  {
    name: 'poison'
    title: 'messages were given up'
    what: 'They are kept for an operator to replay or discard. See docs/runbook.md: Poison is kept.'
    query: loadTextContent('../kql/log/alerts/poison.kql')
    severity: 2
    window: threeTicks
  }
  {
    name: 'backlog'
    title: 'the backlog has grown for an hour'
    what: 'More is listed than Sentinel takes. See docs/runbook.md: The queue does not empty.'
    query: loadTextContent('../kql/log/alerts/backlog.kql')
    severity: 3
    window: anHour
  }
  {
    name: 'nothing-arrived'
    title: 'nothing arrives in Sentinel'
    what: 'Nothing was accepted for a day, or the table lacks it. See docs/runbook.md: Nothing arrives.'
    query: loadTextContent('../kql/log/alerts/nothing-arrived.kql')
    severity: 2
    window: threeTicks
  }
  {
    name: 'pending'
    title: 'a chunk has been pending for a day'
    what: 'Its message may be gone. See docs/runbook.md: A chunk stays pending.'
    query: loadTextContent('../kql/log/alerts/pending.kql')
    severity: 2
    window: threeTicks
  }
  {
    name: 'secret'
    title: 'the client secret ends within 30 days'
    what: 'Uploads stop on that day. See docs/runbook.md: The client secret ends.'
    query: replace(loadTextContent('../kql/log/alerts/secret.kql'), '{credentialEnds}', plan.credentialEnds)
    severity: 2
    window: threeTicks
  }
  {
    name: 'package'
    title: 'the deployed package is older than the template'
    what: 'Settings may mean nothing to it. See docs/runbook.md: The package is older than the template.'
    query: loadTextContent('../kql/log/alerts/package.kql')
    severity: 3
    window: threeTicks
  }
]
var unchanged alertChange = {}
var given = map(filter(all, one => one.name != 'secret' || !empty(plan.credentialEnds)), one => {
  alert: one
  change: changes[?one.name] ?? unchanged
})
var chosen = filter(given, one => one.change.?enabled ?? true)

// 0 and 1 are high in Sentinel.
var incidentSeverities = ['High', 'High', 'Medium', 'Low', 'Informational']
var alertStart = loadTextContent('../kql/log/start.kql')
var incidentStart = replace(loadTextContent('../kql/log/start-in-sentinel.kql'), '{component}', plan.componentId)

resource rules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for one in chosen: if (empty(sentinelWorkspaceName)) {
    name: '${plan.appName}-${one.alert.name}'
    location: plan.location
    tags: plan.tags
    kind: 'LogAlert'
    properties: {
      displayName: 'Lumen feed: ${one.alert.title}'
      description: one.alert.what
      enabled: true
      severity: one.change.?severity ?? one.alert.severity
      scopes: [plan.componentId]
      evaluationFrequency: one.change.?frequency ?? 'PT15M'
      windowSize: one.alert.window
      criteria: {
        allOf: [
          {
            query: '${alertStart}${trim(one.alert.query)}'
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      // Azure refuses one that is muted and ends by itself.
      autoMitigate: empty(one.change.?mute)
      muteActionsDuration: one.change.?mute
      skipQueryValidation: true // the tables are there once the app has logged
      actions: { actionGroups: actionGroupIds }
    }
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: empty(sentinelWorkspaceName) ? 'none' : sentinelWorkspaceName
}

resource incidents 'Microsoft.SecurityInsights/alertRules@2025-09-01' = [
  for one in chosen: if (!empty(sentinelWorkspaceName)) {
    scope: workspace
    name: guid(plan.componentId, one.alert.name)
    kind: 'Scheduled'
    properties: {
      displayName: 'Lumen feed: ${one.alert.title}'
      description: one.alert.what
      enabled: true
      severity: incidentSeverities[one.change.?severity ?? one.alert.severity]
      query: '${incidentStart}${trim(one.alert.query)}'
      queryFrequency: one.change.?frequency ?? 'PT15M'
      queryPeriod: one.alert.window
      triggerOperator: 'GreaterThan'
      triggerThreshold: 0
      // Sentinel makes an alert each time that the query finds a row: a mute keeps it to one.
      suppressionEnabled: true
      suppressionDuration: one.change.?mute ?? 'PT4H'
      eventGroupingSettings: { aggregationKind: 'SingleAlert' }
      incidentConfiguration: {
        createIncident: true
        groupingConfiguration: {
          enabled: true
          reopenClosedIncident: false
          lookbackDuration: 'P1D'
          matchingMethod: 'AnyAlert'
        }
      }
    }
  }
]
