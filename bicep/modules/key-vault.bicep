// The vault of the two secrets: the Lumen key, and the application's client secret where one is
// used. The template writes them through Azure Resource Manager, so the vault needs no public door.

@description('Name of the vault: 3 to 24 letters, digits and hyphens, unique in Azure.')
@minLength(3)
@maxLength(24)
param vaultName string

@description('Region of the vault.')
param location string

@description('Tags of every resource.')
param tags object

@description('Object id of the app\'s identity.')
param principalId string

@description('Lumen API key, bare. Empty: what is in the vault stays.')
@secure()
param lumenApiKey string

@description('Client secret of the Entra application. Empty: what is in the vault stays.')
@secure()
param clientSecret string

@description('Resource id of the Log Analytics workspace that receives the audit log.')
param logWorkspaceId string

var keyVaultSecretsUser = '4633458b-17de-408a-b874-0445c86b69e6'
var lumenApiKeyName = 'lumen-api-key'
var clientSecretName = 'sentinel-client-secret'

// Seven days of soft delete, the least there is: both secrets can be entered again, and the name
// of a vault that was torn down is free again after a week.
resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: vaultName
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 7
    publicNetworkAccess: 'Disabled'
    networkAcls: {
      bypass: 'None'
      defaultAction: 'Deny'
      ipRules: []
      virtualNetworkRules: []
    }
  }
}

resource lumenApiKeySecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(lumenApiKey)) {
  // checkov:skip=CKV_AZURE_41: Lumen decides how long the key lives; an expired secret would stop the feed for no gain
  // checkov:skip=CKV_AZURE_114: contentType is set; the check does not look behind a condition
  parent: vault
  name: lumenApiKeyName
  properties: {
    contentType: 'Lumen Defender Threat Feed API key'
    value: lumenApiKey
  }
}

resource clientSecretSecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(clientSecret)) {
  // checkov:skip=CKV_AZURE_41: Entra ends the secret's life on the day set there; a second date would drift from it
  // checkov:skip=CKV_AZURE_114: contentType is set; the check does not look behind a condition
  parent: vault
  name: clientSecretName
  properties: {
    contentType: 'Entra application client secret'
    value: clientSecret
  }
}

// Get Secret, by the platform, when it resolves the references in the app settings.
resource secretsUser 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, principalId, keyVaultSecretsUser)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUser)
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'to-log-analytics'
  properties: {
    workspaceId: logWorkspaceId
    logs: [
      {
        category: 'AuditEvent'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

@description('Resource id of the vault.')
output vaultId string = vault.id

@description('Name of the vault.')
output vaultName string = vault.name

@description('Address of the Lumen key: of its place, not its value.')
output lumenApiKeyUri string = '${vault.properties.vaultUri}secrets/${lumenApiKeyName}'

@description('Address of the client secret: of its place, not its value.')
output clientSecretUri string = '${vault.properties.vaultUri}secrets/${clientSecretName}'
