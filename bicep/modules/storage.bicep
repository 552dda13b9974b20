// The storage account of the pipeline and of the Functions host: its queues, the ledger's tables,
// the container that code is published to; and what the app's identity may do in it. Reached
// through private endpoints, or from the function subnet alone; always with Entra tokens.

import { names as nameMap, place as placeType } from '../types.bicep'

@description('Region and tags.')
param place placeType

@description('Names of what is made.')
param names nameMap

@description('Resource id of the one subnet that may reach the account; empty: private endpoints only.')
param onlySubnetId string

@description('Log each request to the blob, queue and table services; many, as the host polls.')
param logRequests bool

// The names that the code has for them: tests hold the two together.
var queueNames = ['sentinel-upload', 'sentinel-upload-poison', 'sync-requests', 'sync-requests-poison']
var tableNames = ['acts', 'chunks', 'control', 'poison', 'pulses', 'rejections', 'versions']

var storageBlobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var storageQueueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var storageTableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'

var aWeek = { enabled: true, days: 7 }
var metrics = [{ category: 'Transaction', enabled: true }]
var requestLogs = [
  { category: 'StorageRead', enabled: logRequests }
  { category: 'StorageWrite', enabled: logRequests }
  { category: 'StorageDelete', enabled: logRequests }
]

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: names.identity
}

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' = {
  name: names.account
  location: place.location
  tags: place.tags
  kind: 'StorageV2'
  sku: { name: place.zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowedCopyScope: 'AAD'
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    encryption: { keySource: 'Microsoft.Storage', requireInfrastructureEncryption: true }
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: empty(onlySubnetId) ? 'Disabled' : 'Enabled'
    supportsHttpsTrafficOnly: true
    networkAcls: {
      bypass: 'None'
      defaultAction: 'Deny'
      virtualNetworkRules: empty(onlySubnetId) ? null : [{ id: onlySubnetId, action: 'Allow' }]
    }
  }
}

// A package that was deleted or overwritten by mistake can be had back for a week.
resource blobServices 'Microsoft.Storage/storageAccounts/blobServices@2025-01-01' = {
  parent: account
  name: 'default'
  properties: { deleteRetentionPolicy: aWeek, containerDeleteRetentionPolicy: aWeek }
}

resource deploymentContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-01-01' = {
  parent: blobServices
  name: names.container
  properties: { publicAccess: 'None' }
}

resource queueServices 'Microsoft.Storage/storageAccounts/queueServices@2025-01-01' = {
  parent: account
  name: 'default'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-01-01' = [
  for queueName in queueNames: {
    parent: queueServices
    name: queueName
  }
]

resource tableServices 'Microsoft.Storage/storageAccounts/tableServices@2025-01-01' = {
  parent: account
  name: 'default'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-01-01' = [
  for tableName in tableNames: {
    parent: tableServices
    name: tableName
  }
]

// Nothing is kept in files; the service exists in every account and is closed like the others.
resource fileServices 'Microsoft.Storage/storageAccounts/fileServices@2025-01-01' = {
  parent: account
  name: 'default'
  properties: { shareDeleteRetentionPolicy: aWeek }
}

// The Functions host, AzureWebJobsStorage: takes blob leases for the timer's lock, keeps function
// keys in containers that it makes itself, and reads the code from the deployment container. It has
// no role on queues and tables of its own: our triggers need none, and the settings name neither.
resource hostBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account
  name: guid(account.id, identity.id, storageBlobDataOwner)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataOwner)
  }
}

// Put Message by producer, deferral and replay; Get, Update and Delete Message by the trigger. The
// pair Reader + Message Processor lacks messages/write: renewing a lease would fail with 403.
resource pipelineQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (queueName, i) in queueNames: {
    scope: queues[i]
    name: guid(queues[i].id, identity.id, storageQueueDataContributor)
    properties: {
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageQueueDataContributor)
    }
  }
]

// Insert, merge, replace, query and delete of the ledger's rows, table by table.
resource ledgerTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (tableName, i) in tableNames: {
    scope: tables[i]
    name: guid(tables[i].id, identity.id, storageTableDataContributor)
    properties: {
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageTableDataContributor)
    }
  }
]

resource accountDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: account
  name: 'to-log-analytics'
  properties: { workspaceId: names.logWorkspaceId, metrics: metrics }
}

// Who deleted code is always on record.
resource blobDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: blobServices
  name: 'to-log-analytics'
  properties: {
    workspaceId: names.logWorkspaceId
    logs: concat(take(requestLogs, 2), [{ category: 'StorageDelete', enabled: true }])
    metrics: metrics
  }
}

resource queueDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: queueServices
  name: 'to-log-analytics'
  properties: { workspaceId: names.logWorkspaceId, logs: requestLogs, metrics: metrics }
}

resource tableDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: tableServices
  name: 'to-log-analytics'
  properties: { workspaceId: names.logWorkspaceId, logs: requestLogs, metrics: metrics }
}
