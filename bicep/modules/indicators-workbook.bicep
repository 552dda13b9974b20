// The workbook of the indicators: it reads Sentinel's tables, and no function of another solution.

import { watchPlan } from '../types.bicep'

@description('What is watched.')
param plan watchPlan

@description('Name of the Log Analytics workspace that Sentinel runs on.')
param workspaceName string

@description('Days for which an indicator without an end counts as valid.')
param daysWithoutEnd int

var tiles = [
  {
    title: 'Indicators a day, by type'
    query: loadTextContent('../kql/feed/indicators/volume.kql')
    width: '50'
  }
  {
    title: 'Valid now, by confidence'
    query: loadTextContent('../kql/feed/indicators/confidence.kql')
    width: '50'
    none: 'No valid indicator of Lumen is in the table.'
  }
  {
    title: 'Labels of what is valid'
    query: loadTextContent('../kql/feed/indicators/labels.kql')
    width: '50'
    none: 'No labels: this workspace leaves the column Data out, or nothing is valid.'
  }
  {
    title: 'Over within a week'
    query: loadTextContent('../kql/feed/indicators/ending.kql')
    width: '50'
  }
  {
    title: 'Newest'
    query: loadTextContent('../kql/feed/indicators/newest.kql')
    width: '100'
  }
  {
    title: 'What is known of the value'
    query: loadTextContent('../kql/feed/indicators/value.kql')
    width: '100'
    none: 'Lumen lists no such value, or none is given above.'
  }
  {
    title: 'The value in the logs'
    query: loadTextContent('../kql/feed/indicators/sightings.kql')
    width: '100'
    none: 'Not seen, or no value is given above.'
  }
]
var start = loadTextContent('../kql/feed/start.kql')

module workbook 'workbook.bicep' = {
  params: {
    plan: {
      name: 'Lumen indicators (${plan.appName})'
      text: loadTextContent('../texts/workbook-indicators.md')
      location: plan.location
      tags: plan.tags
      category: 'sentinel'
      sourceId: resourceId('Microsoft.OperationalInsights/workspaces', workspaceName)
      resourceType: 'microsoft.operationalinsights/workspaces'
      days: 14
      asksForValue: true
    }
    start: replace(start, 'withoutEnd = 90d', 'withoutEnd = ${daysWithoutEnd}d')
    tiles: tiles
  }
}
