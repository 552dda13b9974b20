// The workbook of the pipeline's health: it reads the log lines of the app, the `health` line above all.

import { watchPlan } from '../types.bicep'

@description('What is watched.')
param plan watchPlan

var tiles = [
  {
    title: 'How the feed is'
    query: loadTextContent('../kql/log/health/verdict.kql')
    width: '100'
    none: 'No tick has told anything in this time: see the alert no-progress in the runbook.'
  }
  {
    title: 'Verdicts of the ticks'
    query: loadTextContent('../kql/log/health/verdicts.kql')
    width: '50'
  }
  {
    title: 'Freshness, in minutes'
    query: loadTextContent('../kql/log/health/freshness.kql')
    width: '50'
  }
  {
    title: 'Backlog'
    query: loadTextContent('../kql/log/health/backlog.kql')
    width: '50'
  }
  {
    title: 'Requests a minute, of 100'
    query: loadTextContent('../kql/log/health/rate.kql')
    width: '50'
  }
  {
    title: 'Share of 429, in percent'
    query: loadTextContent('../kql/log/health/throttled.kql')
    width: '50'
  }
  {
    title: 'Deferrals by reason'
    query: loadTextContent('../kql/log/health/deferrals.kql')
    width: '50'
  }
  {
    title: 'Rejections by reason'
    query: loadTextContent('../kql/log/health/rejections.kql')
    width: '50'
  }
  {
    title: 'Findings and problems'
    query: loadTextContent('../kql/log/health/problems.kql')
    width: '50'
  }
  {
    title: 'Given up'
    query: loadTextContent('../kql/log/health/poison.kql')
    width: '100'
  }
  {
    title: 'Runs'
    query: loadTextContent('../kql/log/health/runs.kql')
    width: '100'
  }
]

module workbook 'workbook.bicep' = {
  params: {
    plan: {
      name: 'Lumen feed: pipeline health (${plan.appName})'
      text: loadTextContent('../texts/workbook-health.md')
      location: plan.location
      tags: plan.tags
      category: 'workbook'
      sourceId: plan.componentId
      resourceType: 'microsoft.insights/components'
      days: 1
      asksForValue: false
    }
    start: loadTextContent('../kql/log/start.kql')
    tiles: tiles
  }
}
