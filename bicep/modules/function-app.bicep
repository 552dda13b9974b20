// The function app on Flex Consumption: plan, app, its settings, its publishing policies. Whoever
// calls this module makes it wait for endpoints, DNS and roles: the host starts at once.

@description('Name of the function app, unique in Azure.')
param appName string

@description('Region of the app.')
param location string

@description('Tags of every resource.')
param tags object

@description('Resource id of the app\'s user-assigned identity.')
param identityId string

@description('Client id of the app\'s user-assigned identity.')
param identityClientId string

@description('Resource id of the delegated subnet that the app calls out from.')
param subnetId string

@description('Address of the blob service, with a slash at its end.')
param blobEndpoint string

@description('Address of the queue service, with a slash at its end.')
param queueEndpoint string

@description('Address of the table service, with a slash at its end.')
param tableEndpoint string

@description('Name of the container that the code is deployed to.')
param deploymentContainerName string

@description('Connection string of Application Insights.')
param applicationInsightsConnectionString string

@description('Resource id of the Log Analytics workspace that receives metrics and logs.')
param logWorkspaceId string

@description('Send the host\'s log to the workspace a second time, beside Application Insights.')
param logHost bool

@description('Memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int

@description('Most instances of a scale group: each timer and queue function is one of its own, the HTTP functions share one.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int

@description('Instances of the uploading function that are kept running; each is billed.')
@minValue(0)
@maxValue(10)
param alwaysReadyUploadInstances int

@description('How running instances are replaced by an update: drained, or stopped at once.')
@allowed(['RollingUpdate', 'Recreate'])
param siteUpdateStrategy string

@description('Spread instances over availability zones.')
param zoneRedundant bool

@description('Close the app\'s public address; operators then need its private endpoint.')
param privateInbound bool

@description('CIDR ranges that may call the app, beside its own subnet; empty: any. A function key is needed in any case.')
param allowedIpRanges array

@description('Address of the Lumen key in the vault.')
param lumenApiKeyUri string

@description('Address of the client secret in the vault; empty: the app\'s identity signs in.')
param clientSecretUri string

@description('GUID of the Log Analytics workspace that Sentinel runs on.')
param workspaceId string

@description('GUID of the Entra tenant of the workspace.')
param tenantId string

@description('Client id of who uploads: an Entra application, or the app\'s identity.')
param clientId string

@description('Address of Entra\'s sign-in.')
param entraAuthorityHost string

@description('Address of Sentinel\'s upload API.')
param sentinelBaseUrl string

@description('Audience of the tokens for Sentinel.')
param sentinelAudience string

@description('When a sync run starts: NCRONTAB with six fields.')
param lumenSchedule string

@description('Lowest confidence that is sent.')
@minValue(0)
@maxValue(100)
param lumenConfidenceThreshold int

@description('Send IPv4 address indicators.')
param lumenEnableIpv4 bool

@description('Send domain indicators.')
param lumenEnableDomain bool

@description('Requests a minute that all senders together make.')
@minValue(1)
@maxValue(100)
param sentinelRequestsPerMinute int

@description('Days after which an unchanged indicator is sent again.')
@minValue(1)
@maxValue(13)
param reuploadAfterDays int

@description('Further settings by name, for those that this template leaves to their defaults.')
param settingOverrides object

// What the Functions host needs for itself.
var hostSettings = [
  { name: 'AzureWebJobsStorage__blobServiceUri', value: blobEndpoint }
  { name: 'AzureWebJobsStorage__queueServiceUri', value: queueEndpoint }
  { name: 'AzureWebJobsStorage__tableServiceUri', value: tableEndpoint }
  { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
  { name: 'AzureWebJobsStorage__clientId', value: identityClientId }
  { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: applicationInsightsConnectionString }
  { name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING', value: 'ClientId=${identityClientId};Authorization=AAD' }
  { name: 'PYTHON_THREADPOOL_THREAD_COUNT', value: '24' }
]

// The pipeline's queue and tables, read by the triggers and by the code.
var storageSettings = [
  { name: 'PipelineStorage__queueServiceUri', value: queueEndpoint }
  { name: 'PipelineStorage__tableServiceUri', value: tableEndpoint }
  { name: 'PipelineStorage__credential', value: 'managedidentity' }
  { name: 'PipelineStorage__clientId', value: identityClientId }
]

// Left to their defaults: LUMEN_BASE_URL, LUMEN_POLL_INTERVAL, LUMEN_POLL_TIMEOUT, MAX_PAGES,
// CHUNK_SIZE, MAX_RETRIES, RETRY_BASE_DELAY, RETRY_MAX_DELAY, RUN_TIME_BUDGET, RUN_LEASE,
// KNOWN_FOR_DAYS, KNOWN_MAX, SEND_UNKNOWN_REVOKED, DEFERRAL_DELAY. They are tuned against measurements, not chosen at a deployment.
var pipelineSettings = [
  { name: 'LUMEN_API_KEY', value: '@Microsoft.KeyVault(SecretUri=${lumenApiKeyUri})' }
  { name: 'WORKSPACE_ID', value: workspaceId }
  { name: 'TENANT_ID', value: tenantId }
  { name: 'CLIENT_ID', value: clientId }
  { name: 'ENTRA_AUTHORITY_HOST', value: entraAuthorityHost }
  { name: 'SENTINEL_BASE_URL', value: sentinelBaseUrl }
  { name: 'SENTINEL_AUDIENCE', value: sentinelAudience }
  { name: 'LUMEN_SCHEDULE', value: lumenSchedule }
  { name: 'LUMEN_CONFIDENCE_THRESHOLD', value: string(lumenConfidenceThreshold) }
  { name: 'LUMEN_ENABLE_IPV4', value: lumenEnableIpv4 ? 'true' : 'false' }
  { name: 'LUMEN_ENABLE_DOMAIN', value: lumenEnableDomain ? 'true' : 'false' }
  { name: 'SENTINEL_REQUESTS_PER_MINUTE', value: string(sentinelRequestsPerMinute) }
  { name: 'REUPLOAD_AFTER_DAYS', value: string(reuploadAfterDays) }
]

var applicationSettings = [
  { name: 'CLIENT_SECRET', value: '@Microsoft.KeyVault(SecretUri=${clientSecretUri})' }
]

var overrideSettings = [for setting in items(settingOverrides): {
  name: setting.key
  value: setting.value
}]

var signInSettings = empty(clientSecretUri) ? [] : applicationSettings

var alwaysReady = [
  { name: 'function:sentinel_upload', instanceCount: alwaysReadyUploadInstances }
]

// The host registers its triggers with a call to the app's own public address: refused, neither
// timer nor queue would start anything. The rule matches where the subnet has a service endpoint
// for Microsoft.Web, and lets nobody else in where it has none.
var ownSubnet = [
  { name: 'own-subnet', action: 'Allow', vnetSubnetResourceId: subnetId, priority: 90 }
]

var ipRestrictions = [for (cidr, i) in allowedIpRanges: {
  name: 'allowed-${i}'
  action: 'Allow'
  ipAddress: cidr
  priority: 100 + i
}]

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  // checkov:skip=CKV_AZURE_225: zone redundancy is a parameter; it costs more and not every region has it
  name: '${appName}-plan'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  // checkov:skip=CKV_AZURE_17: operators sign in with function keys; nobody has a client certificate
  // checkov:skip=CKV_AZURE_78: Flex Consumption has no FTP and refuses ftpsState; the policy ftp below forbids it, too
  // checkov:skip=CKV_AZURE_212: Flex Consumption has no fixed number of instances; the queue keeps the work
  // checkov:skip=CKV_AZURE_213: Flex Consumption does not route by health checks; a missing sync run alerts
  // checkov:skip=CKV_AZURE_222: public access is off with privateInbound; else keys and allowedIpRanges guard it
  name: appName
  location: location
  tags: union(tags, { 'azd-service-name': 'pipeline' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    keyVaultReferenceIdentity: identityId
    publicNetworkAccess: privateInbound ? 'Disabled' : 'Enabled'
    virtualNetworkSubnetId: subnetId
    functionAppConfig: {
      runtime: {
        name: 'python'
        version: '3.13'
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${blobEndpoint}${deploymentContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      scaleAndConcurrency: {
        alwaysReady: (alwaysReadyUploadInstances > 0) ? alwaysReady : []
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
      }
      siteUpdateStrategy: {
        type: siteUpdateStrategy
      }
    }
    siteConfig: {
      appSettings: concat(hostSettings, storageSettings, pipelineSettings, signInSettings, overrideSettings)
      http20Enabled: true
      ipSecurityRestrictions: empty(allowedIpRanges) ? [] : concat(ownSubnet, ipRestrictions)
      ipSecurityRestrictionsDefaultAction: empty(allowedIpRanges) ? 'Allow' : 'Deny'
      minTlsVersion: '1.2'
      remoteDebuggingEnabled: false
      scmIpSecurityRestrictionsUseMain: false
      scmMinTlsVersion: '1.2'
    }
  }
}

resource ftpPublishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

// After the other one: two changes of a site at once can end in a conflict.
resource scmPublishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
  dependsOn: [
    ftpPublishing
  ]
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: app
  name: 'to-log-analytics'
  properties: {
    workspaceId: logWorkspaceId
    logs: [
      {
        category: 'FunctionAppLogs'
        enabled: logHost
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

@description('Resource id of the app.')
output appId string = app.id

@description('Name of the app.')
output appName string = app.name

@description('Host name of the app\'s HTTP functions.')
output hostName string = app.properties.defaultHostName
