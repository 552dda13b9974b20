// The vault of the two secrets: the Lumen key, and the application's client secret where one is
// used. The template writes them through Azure Resource Manager, so the vault needs no public door.

import { names as nameMap, place as placeType } from '../types.bicep'

@description('Region and tags.')
param place placeType

@description('Names of what is made.')
param names nameMap

@description('Resource id of the one subnet that may reach the vault; empty: private endpoints only.')
param onlySubnetId string

@description('Lumen API key, bare. Empty: what is in the vault stays.')
@secure()
param lumenApiKey string

@description('Client secret of the Entra application. Empty: what is in the vault stays.')
@secure()
param clientSecret string

var keyVaultSecretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: names.identity
}

// Seven days of soft delete, the least there is: both secrets can be entered again, and the name
// of a vault that was torn down is free again after a week.
resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  name: names.vault
  location: place.location
  tags: place.tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 7
    publicNetworkAccess: empty(onlySubnetId) ? 'Disabled' : 'Enabled'
    networkAcls: {
      bypass: 'None'
      defaultAction: 'Deny'
      virtualNetworkRules: empty(onlySubnetId) ? null : [{ id: onlySubnetId }]
    }
  }
}

resource lumenApiKeySecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(lumenApiKey)) {
  parent: vault
  name: 'lumen-api-key'
  properties: { contentType: 'Lumen Defender Threat Feed API key', value: lumenApiKey }
}

resource clientSecretSecret 'Microsoft.KeyVault/vaults/secrets@2024-11-01' = if (!empty(clientSecret)) {
  parent: vault
  name: 'sentinel-client-secret'
  properties: { contentType: 'Entra application client secret', value: clientSecret }
}

// Get Secret, by the platform, when it resolves the references in the app settings.
resource secretsUser 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, identity.id, keyVaultSecretsUser)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUser)
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'to-log-analytics'
  properties: {
    workspaceId: names.logWorkspaceId
    logs: [{ category: 'AuditEvent', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}
