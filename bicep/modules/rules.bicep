// Two analytic rules that look for listed addresses and domains in the logs, and two hunting queries for
// the 14 days before. Optional: each needs its logs in the workspace.

import { rulePlan } from '../types.bicep'

@description('Name of the Log Analytics workspace that Sentinel runs on.')
param workspaceName string

@description('Name of the function app: a second pipeline has rules of its own.')
param appName string

@description('What an operator may choose.')
param plan rulePlan

// The texts hold the defaults, so that they can be run as they are; a test holds both together.
var withoutEnd = { default: 'withoutEnd = 90d', chosen: 'withoutEnd = ${plan.daysWithoutEnd}d' }
var allowed = { default: 'allowedOnly = true', chosen: 'allowedOnly = ${toLower(string(plan.allowedOnly))}' }
var start = replace(loadTextContent('../kql/feed/start.kql'), withoutEnd.default, withoutEnd.chosen)

var address = { entityType: 'IP', fieldMappings: [{ identifier: 'Address', columnName: 'Own' }] }
var host = { entityType: 'Host', fieldMappings: [{ identifier: 'HostName', columnName: 'Host' }] }
var account = { entityType: 'Account', fieldMappings: [{ identifier: 'FullName', columnName: 'Account' }] }

var rules = [
  {
    name: 'firewall'
    title: 'Lumen: traffic with a listed address'
    what: 'A firewall or proxy (CommonSecurityLog) let traffic through, to or from an address that Lumen lists.'
    query: loadTextContent('../kql/feed/rules/firewall.kql')
    alertTitle: 'Lumen: traffic {{Direction}} {{Listed}}'
    listed: { entityType: 'IP', fieldMappings: [{ identifier: 'Address', columnName: 'Listed' }] }
  }
  {
    name: 'dns'
    title: 'Lumen: a listed domain was asked for'
    what: 'A DNS server (DnsEvents, ASimDnsActivityLogs) was asked for a domain that Lumen lists.'
    query: loadTextContent('../kql/feed/rules/dns.kql')
    alertTitle: 'Lumen: {{Own}} asked for {{Listed}}'
    listed: { entityType: 'DNS', fieldMappings: [{ identifier: 'DomainName', columnName: 'Listed' }] }
  }
]
var hunts = [
  {
    name: 'firewall'
    title: 'Lumen: traffic of 14 days with what is listed now'
    what: 'Finds traffic with an address from before Lumen listed it.'
    query: loadTextContent('../kql/feed/hunting/firewall.kql')
  }
  {
    name: 'dns'
    title: 'Lumen: DNS questions of 14 days for what is listed now'
    what: 'Finds questions for a domain from before Lumen listed it.'
    query: loadTextContent('../kql/feed/hunting/dns.kql')
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

resource analytic 'Microsoft.SecurityInsights/alertRules@2025-09-01' = [
  for rule in rules: {
    scope: workspace
    name: guid(workspace.id, appName, rule.name)
    kind: 'Scheduled'
    properties: {
      displayName: rule.title
      description: rule.what
      enabled: true
      severity: 'Medium'
      query: '${start}${trim(replace(rule.query, allowed.default, allowed.chosen))}'
      queryFrequency: 'PT1H' // the `window` of the texts
      queryPeriod: 'P14D' // of indicators: Sentinel writes each valid one again within 10 days
      triggerOperator: 'GreaterThan'
      triggerThreshold: 0
      suppressionEnabled: false
      suppressionDuration: 'PT1H'
      tactics: ['CommandAndControl']
      techniques: ['T1071']
      entityMappings: [rule.listed, address, host, account]
      customDetails: { Listed: 'Listed', Confidence: 'Confidence', StixId: 'StixId', Events: 'Events' }
      alertDetailsOverride: { alertDisplayNameFormat: rule.alertTitle, alertSeverityColumnName: 'Severity' }
      eventGroupingSettings: { aggregationKind: 'AlertPerResult' }
      incidentConfiguration: {
        createIncident: true
        groupingConfiguration: {
          enabled: true
          reopenClosedIncident: false
          lookbackDuration: 'P1D'
          matchingMethod: 'Selected'
          groupByEntities: []
          groupByAlertDetails: []
          groupByCustomDetails: ['Listed'] // one address, or domain, is one incident
        }
      }
    }
  }
]

resource hunting 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-02-01' = [
  for hunt in hunts: {
    parent: workspace
    name: 'lumen-${hunt.name}-${appName}'
    properties: {
      category: 'Hunting Queries'
      displayName: hunt.title
      query: '${start}${trim(hunt.query)}'
      version: 2
      tags: [
        { name: 'description', value: hunt.what }
        { name: 'tactics', value: 'CommandAndControl' }
        { name: 'techniques', value: 'T1071' }
      ]
    }
  }
]
