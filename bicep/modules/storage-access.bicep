// What the app's identity may do in the storage account: no more than its calls need.

@description('Name of the storage account.')
param accountName string

@description('Object id of the app\'s identity.')
param principalId string

@description('Names of the queues that the app sends to and is triggered by.')
param queueNames array

@description('Names of the ledger\'s tables.')
param tableNames array

var storageBlobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var storageQueueDataContributor = '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
var storageTableDataContributor = '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'

resource account 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: accountName
}

resource queueServices 'Microsoft.Storage/storageAccounts/queueServices@2025-01-01' existing = {
  parent: account
  name: 'default'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-01-01' existing = [for queueName in queueNames: {
  parent: queueServices
  name: queueName
}]

resource tableServices 'Microsoft.Storage/storageAccounts/tableServices@2025-01-01' existing = {
  parent: account
  name: 'default'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-01-01' existing = [for tableName in tableNames: {
  parent: tableServices
  name: tableName
}]

// The Functions host, AzureWebJobsStorage: takes blob leases for the timer's lock, keeps function
// keys in containers that it makes itself, and reads the code from the deployment container. It has
// no role on queues and tables of its own: it needs none for our triggers, and does without the
// table that it would keep diagnostic events in.
resource hostBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account
  name: guid(account.id, principalId, storageBlobDataOwner)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataOwner)
  }
}

// Put Message by producer, deferral and replay; Get, Update and Delete Message by the trigger. The
// pair Reader + Message Processor lacks messages/write: renewing a lease would fail with 403.
resource pipelineQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (queueName, i) in queueNames: {
  scope: queues[i]
  name: guid(queues[i].id, principalId, storageQueueDataContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageQueueDataContributor)
  }
}]

// Insert, merge, replace, query and delete of the ledger's rows, table by table.
resource ledgerTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for (tableName, i) in tableNames: {
  scope: tables[i]
  name: guid(tables[i].id, principalId, storageTableDataContributor)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageTableDataContributor)
  }
}]
