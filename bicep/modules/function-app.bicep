// The function app on Flex Consumption: plan, app, its settings, its publishing policies. Who calls
// this module makes it wait for endpoints, DNS and roles: the host starts at once.

import { names as nameMap, settings, place as placeType } from '../types.bicep'

@description('Region and tags.')
param place placeType

@description('Names of what is made.')
param names nameMap

@description('Resource id of the delegated subnet that the app calls out from.')
param subnetId string

@description('Cloud that the app runs in.')
param cloud string

@description('Send the host\'s log to the workspace a second time, beside Application Insights.')
param logHost bool

@description('Memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int

@description('Most instances of a scale group.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int

@description('Instances of the uploading function that are kept running; each is billed.')
@minValue(0)
@maxValue(10)
param alwaysReadyUploadInstances int

@description('Close the app\'s public address; operators then need its private endpoint.')
param privateInbound bool

@description('CIDR ranges that may call the app, beside its own subnet; empty: any.')
param allowedIpRanges string[]

@description('App settings by name, beside those of host, storage and sign-in, which this module makes.')
param appSettings settings

@description('Resource id of the Log Analytics workspace that Sentinel runs on.')
param sentinelWorkspaceResourceId string

@description('GUID of that workspace; empty: read from it.')
param sentinelWorkspaceId string

@description('GUID of the Entra tenant of that workspace.')
param tenantId string

@description('Client id of the Entra application that uploads; empty: the app\'s identity.')
param applicationClientId string

@description('Client id of the Entra registration by which operators sign in; empty: they have function keys.')
param operatorClientId string

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: names.identity
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: names.component
}

// Read only where its GUID is not given: it may be in another tenant.
resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = if (empty(sentinelWorkspaceId)) {
  scope: resourceGroup(split(sentinelWorkspaceResourceId, '/')[2], split(sentinelWorkspaceResourceId, '/')[4])
  name: last(split(sentinelWorkspaceResourceId, '/'))
}

var places = loadJsonContent('../clouds.json')[cloud]
var useApplication = !empty(applicationClientId)
var ownSettings = {
  AzureWebJobsStorage__blobServiceUri: 'https://${names.account}.blob.${places.storageSuffix}'
  AzureWebJobsStorage__credential: 'managedidentity'
  PipelineStorage__queueServiceUri: 'https://${names.account}.queue.${places.storageSuffix}'
  PipelineStorage__tableServiceUri: 'https://${names.account}.table.${places.storageSuffix}'
  PipelineStorage__credential: 'managedidentity'
  PYTHON_THREADPOOL_THREAD_COUNT: '24'
  LUMEN_API_KEY: '@Microsoft.KeyVault(VaultName=${names.vault};SecretName=lumen-api-key)'
  TENANT_ID: tenantId
  ENTRA_AUTHORITY_HOST: places.entraAuthorityHost
  SENTINEL_BASE_URL: places.sentinelBaseUrl
  SENTINEL_AUDIENCE: places.sentinelAudience
  SENTINEL_QUERY_URL: places.sentinelQueryUrl
  SENTINEL_QUERY_AUDIENCE: places.sentinelQueryAudience
  OPERATOR_CLIENT_ID: operatorClientId
}
var applicationSettings = {
  CLIENT_ID: applicationClientId
  CLIENT_SECRET: '@Microsoft.KeyVault(VaultName=${names.vault};SecretName=sentinel-client-secret)'
}
var knownSettings = union(appSettings, ownSettings, useApplication ? applicationSettings : {})

// Azure decides these. They are a list of their own, so that a snapshot shows all the others.
var clientId = identity.properties.clientId
var workspaceId = empty(sentinelWorkspaceId) ? workspace!.properties.customerId : sentinelWorkspaceId
var settingsOfAzure = [
  { name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING', value: 'ClientId=${clientId};Authorization=AAD' }
  { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: component.properties.ConnectionString }
  { name: 'AzureWebJobsStorage__clientId', value: clientId }
  { name: 'PipelineStorage__clientId', value: clientId }
  { name: 'WORKSPACE_ID', value: workspaceId }
]
var settingsOfIdentity = [{ name: 'CLIENT_ID', value: clientId }]

var alwaysReady = [
  { name: 'function:sentinel_upload', instanceCount: alwaysReadyUploadInstances }
]

// The host registers its triggers with a call to the app's own public address: refused, neither
// timer nor queue would start anything. The rule matches where the subnet has a service endpoint
// for Microsoft.Web, and lets nobody else in where it has none.
var ownSubnet = [
  { name: 'own-subnet', action: 'Allow', vnetSubnetResourceId: subnetId, priority: 90 }
]
var ranges = [
  for (range, i) in allowedIpRanges: { name: 'allowed-${i}', action: 'Allow', ipAddress: range, priority: 100 + i }
]

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: '${names.app}-plan'
  location: place.location
  tags: place.tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true, zoneRedundant: place.zoneRedundant }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: names.app
  location: place.location
  tags: union(place.tags, { 'azd-service-name': 'pipeline' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    keyVaultReferenceIdentity: identity.id
    publicNetworkAccess: privateInbound ? 'Disabled' : 'Enabled'
    virtualNetworkSubnetId: subnetId
    functionAppConfig: {
      runtime: { name: 'python', version: '3.13' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: 'https://${names.account}.blob.${places.storageSuffix}/${names.container}'
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identity.id }
        }
      }
      scaleAndConcurrency: {
        alwaysReady: alwaysReadyUploadInstances > 0 ? alwaysReady : []
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
      }
    }
    siteConfig: {
      appSettings: concat(
        map(items(knownSettings), setting => { name: setting.key, value: setting.value }),
        settingsOfAzure,
        useApplication ? [] : settingsOfIdentity
      )
      http20Enabled: true
      ipSecurityRestrictions: empty(allowedIpRanges) ? [] : concat(ownSubnet, ranges)
      ipSecurityRestrictionsDefaultAction: empty(allowedIpRanges) ? 'Allow' : 'Deny'
      minTlsVersion: '1.2'
      remoteDebuggingEnabled: false
      // The publishing site takes Entra tokens only, from anywhere: those who publish are not
      // those who call. privateInbound closes it to the public as well.
      scmIpSecurityRestrictionsUseMain: false
      scmMinTlsVersion: '1.2'
    }
  }
}

resource ftpPublishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

// After the other one: two changes of a site at once can end in a conflict.
resource scmPublishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
  dependsOn: [ftpPublishing]
}

// App Service checks each token and tells the app whose it is. A call without one is let through:
// health needs none, and the app refuses the others. A call with a wrong one is refused here.
resource operatorSignIn 'Microsoft.Web/sites/config@2024-11-01' = if (!empty(operatorClientId)) {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: { enabled: true }
    globalValidation: { requireAuthentication: false, unauthenticatedClientAction: 'AllowAnonymous' }
    httpSettings: { requireHttps: true }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: { clientId: operatorClientId, openIdIssuer: '${places.entraAuthorityHost}/${tenantId}/v2.0' }
        validation: { allowedAudiences: [operatorClientId, 'api://${operatorClientId}'] }
      }
    }
    login: { tokenStore: { enabled: false } }
  }
  dependsOn: [scmPublishing]
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: app
  name: 'to-log-analytics'
  properties: {
    workspaceId: names.logWorkspaceId
    logs: [{ category: 'FunctionAppLogs', enabled: logHost }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

@description('Host name of the app\'s HTTP functions.')
output hostName string = app.properties.defaultHostName
