// A workbook of Azure: parameters above, then a text, then tiles, each of them one query.

import { workbookPlan, workbookTile } from '../types.bicep'

@description('Where the workbook is and what it asks.')
param plan workbookPlan

@description('Put before each query.')
param start string

@description('Its tiles, in order.')
param tiles workbookTile[]

var times = {
  id: guid(plan.name, 'TimeRange')
  version: 'KqlParameterItem/1.0'
  name: 'TimeRange'
  label: 'Time range'
  type: 4
  isRequired: true
  value: { durationMs: plan.days * 86400000 }
  typeSettings: { selectableValues: map([1, 2, 7, 14, 30], days => { durationMs: days * 86400000 }), allowCustom: true }
}
var value = {
  id: guid(plan.name, 'Value')
  version: 'KqlParameterItem/1.0'
  name: 'Value'
  label: 'Address or domain'
  type: 1
  isRequired: false
  value: ''
  // What else a query might read as its own is no address and no domain.
  typeSettings: {
    paramValidationRules: [{ regExp: '^[0-9A-Za-z.:_-]*$', match: true, message: 'An address or a domain.' }]
  }
}
var head = [
  {
    type: 9
    name: 'parameters'
    content: {
      version: 'KqlParameterItem/1.0'
      parameters: plan.asksForValue ? [times, value] : [times]
      style: 'pills'
      queryType: 0
      resourceType: plan.resourceType
    }
  }
  { type: 1, name: 'text', content: { json: plan.text } }
]
var items = [
  for tile in tiles: {
    type: 3
    name: tile.title
    customWidth: tile.width
    content: {
      version: 'KqlItem/1.0'
      title: tile.title
      query: '${start}${trim(tile.query)}'
      size: 0
      noDataMessage: tile.?none ?? 'None in this time.'
      timeContextFromParameter: 'TimeRange'
      queryType: 0
      resourceType: plan.resourceType
    }
  }
]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(plan.sourceId, plan.name)
  location: plan.location
  tags: plan.tags
  kind: 'shared'
  properties: {
    displayName: plan.name
    category: plan.category
    sourceId: plan.sourceId
    version: 'Notebook/1.0'
    serializedData: string({
      version: 'Notebook/1.0'
      items: concat(head, items)
      fallbackResourceIds: [plan.sourceId]
    })
  }
}
