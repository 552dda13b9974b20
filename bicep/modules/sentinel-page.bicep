// The feed's page among Sentinel's data connectors: what it is, whether it is connected, what to
// ask of its data. It only shows; uploading works without it.

@description('Name of the Log Analytics workspace that Sentinel runs on.')
param workspaceName string

@description('Name of the function app, for the steps on the page.')
param functionAppName string

@description('Resource group of the function app, for the steps on the page.')
param functionAppResourceGroup string

var received = 'ThreatIntelIndicators\n| where SourceSystem == \'Lumen\''

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

resource page 'Microsoft.SecurityInsights/dataConnectors@2024-10-01-preview' = {
  scope: workspace
  name: 'LumenThreatFeedQueuedPrivateNetworking'
  kind: 'GenericUI'
  properties: {
    connectorUiConfig: {
      title: 'Lumen Defender Threat Feed (queued, private networking)'
      publisher: 'Lumen to Sentinel pipeline'
      descriptionMarkdown: 'Brings IPv4 address and domain indicators of the Lumen Defender Threat Feed to Microsoft Sentinel every 15 minutes, through a queue in a private network. New and changed indicators are sent at once; all others again within seven days, so that analytic rules with a look-back of 14 days keep seeing them. Each indicator is accounted for: accepted, rejected with a reason, or kept for replay.'
      graphQueriesTableName: 'ThreatIntelIndicators'
      graphQueries: [
        {
          metricName: 'Indicators received'
          legend: 'Lumen indicators'
          baseQuery: received
        }
      ]
      sampleQueries: [
        {
          description: 'Latest indicators'
          query: '${received}\n| summarize arg_max(TimeGenerated, *) by Id\n| sort by TimeGenerated desc\n| take 100'
        }
        {
          description: 'Indicators by kind and confidence'
          query: '${received}\n| summarize arg_max(TimeGenerated, *) by Id\n| summarize Indicators = count() by ObservableKey, ConfidenceBand = bin(Confidence, 10)\n| sort by ObservableKey asc, ConfidenceBand desc'
        }
        {
          description: 'Indicators received by hour in the last three days'
          query: '${received}\n| where TimeGenerated > ago(3d)\n| summarize Indicators = dcount(Id) by bin(TimeGenerated, 1h)\n| render timechart'
        }
      ]
      dataTypes: [
        {
          name: 'ThreatIntelIndicators (Lumen)'
          lastDataReceivedQuery: '${received}\n| summarize Time = max(TimeGenerated)\n| where isnotempty(Time)'
        }
      ]
      connectivityCriteria: [
        {
          type: 'IsConnectedQuery'
          value: [
            '${received}\n| summarize LastReceived = max(TimeGenerated)\n| project IsConnected = LastReceived > ago(3d)'
          ]
        }
      ]
      availability: {
        status: 1
        isPreview: false
      }
      permissions: {
        resourceProvider: [
          {
            provider: 'Microsoft.OperationalInsights/workspaces'
            permissionsDisplayText: 'Read and write permissions on the workspace are needed.'
            providerDisplayName: 'Workspace'
            scope: 'Workspace'
            requiredPermissions: {
              read: true
              write: true
              delete: false
            }
          }
        ]
        customs: [
          {
            name: 'Lumen Defender Threat Feed API key'
            description: 'Lumen issues the key to subscribers of the feed.'
          }
          {
            name: 'Permission to deploy'
            description: 'Contributor and Role Based Access Control Administrator on the resource group of the pipeline; Microsoft Sentinel Contributor and Log Analytics Contributor on the resource group of this workspace, and the right to assign roles on it.'
          }
        ]
      }
      instructionSteps: [
        {
          title: 'Deploy the pipeline'
          description: 'The template makes the network, the storage account, the vault, the identity with its roles and the function app **${functionAppName}** in the resource group **${functionAppResourceGroup}**. Since this page is there, that has been done.'
        }
        {
          title: 'Store the Lumen key'
          description: 'Give the API key as the parameter `lumenApiKey` of a deployment: it is written to the key vault, and the function app reads it from there. To change it, deploy again with the new key, and pull the reference values on the page *Environment variables* of the function app.'
        }
        {
          title: 'Let the pipeline upload'
          description: 'The identity of the function app, or the Entra application that was chosen instead, needs the role *Microsoft Sentinel Contributor* on this workspace. The template assigns it unless told not to.'
        }
        {
          title: 'Deploy the code and watch the first run'
          description: 'Publish the package to the function app. The timer starts a run within 15 minutes; the first one takes as long as the feed is large, about 10,000 indicators a minute. `GET /api/status` of the app, with a function key, says how far it is.'
        }
      ]
    }
  }
}
