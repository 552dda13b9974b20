// What the pipeline has in Sentinel: the right to upload, and a page among the data connectors. The
// workspace may be in another resource group or subscription; this is deployed to wherever it is.

@description('Name of the Log Analytics workspace that Sentinel runs on.')
param workspaceName string

@description('Assign the role to who uploads.')
param assignRole bool

@description('Object id of who uploads: the app\'s identity, or the application\'s service principal.')
param principalId string

@description('What the assignment\'s name is made of, known before the identity has an object id.')
param uploader string

@description('Make the page. It only shows; uploading works without it.')
param createPage bool

@description('Name of the function app, for the page.')
param functionAppName string

@description('Resource group of the function app, for the page.')
param functionAppResourceGroup string

var microsoftSentinelContributor = 'ab8e14d6-4a74-4a29-9ba8-549422addade'
var received = trim(loadTextContent('../kql/page/received.kql'))
var steps = loadTextContent('../texts/page-steps.json')

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

// threat-intelligence-stix-objects:upload, and questions to the workspace about what arrived: the role
// has the right to read the workspace's data, so no second one is assigned.
resource contributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (assignRole) {
  scope: workspace
  // In lower case: with an id that is written differently, the next deployment would assign it again.
  name: guid(toLower(workspace.id), toLower(uploader), microsoftSentinelContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', microsoftSentinelContributor)
  }
}

// Its name holds that of the app: a second pipeline on one workspace has a page of its own.
resource page 'Microsoft.SecurityInsights/dataConnectors@2025-10-01-preview' = if (createPage) {
  scope: workspace
  name: 'LumenThreatFeedQueued-${functionAppName}'
  kind: 'GenericUI'
  properties: {
    connectorUiConfig: {
      title: 'Lumen Defender Threat Feed (queued, private networking): ${functionAppName}'
      publisher: 'Lumen to Sentinel pipeline'
      descriptionMarkdown: trim(loadTextContent('../texts/page-description.md'))
      graphQueriesTableName: 'ThreatIntelIndicators'
      graphQueries: [{ metricName: 'Indicators received', legend: 'Lumen indicators', baseQuery: received }]
      sampleQueries: [
        { description: 'All indicators', query: trim(loadTextContent('../kql/page/all.kql')) }
        {
          description: 'Indicators of high confidence'
          query: trim(loadTextContent('../kql/page/high-confidence.kql'))
        }
        { description: 'IPv4 addresses', query: trim(loadTextContent('../kql/page/addresses.kql')) }
        { description: 'Domains', query: trim(loadTextContent('../kql/page/domains.kql')) }
        { description: 'Indicators by day', query: trim(loadTextContent('../kql/page/by-day.kql')) }
      ]
      dataTypes: [
        {
          name: 'ThreatIntelIndicators (Lumen)'
          lastDataReceivedQuery: trim(loadTextContent('../kql/page/last-received.kql'))
        }
      ]
      connectivityCriteria: [
        { type: 'IsConnectedQuery', value: [trim(loadTextContent('../kql/page/is-connected.kql'))] }
      ]
      availability: { status: 1, isPreview: true }
      permissions: loadJsonContent('../texts/page-permissions.json')
      instructionSteps: json(replace(replace(steps, '{app}', functionAppName), '{group}', functionAppResourceGroup))
    }
  }
}
