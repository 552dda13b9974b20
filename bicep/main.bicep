// Everything the pipeline needs in Azure, in one resource group: network, storage, vault, identity,
// monitoring, function app. The workspace of Sentinel, an existing network and central DNS zones
// may be elsewhere. docs/deploy.md leads through it.

targetScope = 'resourceGroup'

// --- names and places -----------------------------------------------------------------------

@description('Start of every name: lower-case letters and digits. 13 characters that make it unique are added; a storage account takes no more than 24.')
@minLength(3)
@maxLength(11)
param functionNamePrefix string = 'lumenfeed'

@description('Region of all resources; an existing network must be in the same.')
param location string = resourceGroup().location

@description('Tags of every resource.')
param tags object = {}

@description('Spread the app over availability zones and keep storage in three of them, in regions that have them. Decide before the first deployment: no template can move storage that exists.')
param zoneRedundant bool = false

@description('Cloud that the app runs in: it decides where Entra, Sentinel and DNS are.')
@allowed(['AzureCloud', 'AzureUSGovernment'])
param cloud string = environment().name

// --- Lumen ----------------------------------------------------------------------------------

@description('Lumen Defender Threat Feed API key, bare. Empty keeps the key that the vault holds.')
@secure()
param lumenApiKey string = ''

@description('Lowest confidence that is sent to Sentinel.')
@minValue(0)
@maxValue(100)
param lumenConfidenceThreshold int = 65

@description('Send IPv4 address indicators.')
param lumenEnableIpv4 bool = true

@description('Send domain indicators.')
param lumenEnableDomain bool = true

@description('When a sync run starts: NCRONTAB with six fields, in UTC. The alert assumes ticks no more than 15 minutes apart: see docs/deploy.md.')
param lumenSchedule string = '0 */15 * * * *'

// --- Sentinel -------------------------------------------------------------------------------

@description('Resource id of the Log Analytics workspace that Sentinel runs on, in any resource group or subscription of the tenant.')
param sentinelWorkspaceResourceId string

@description('GUID of that workspace. Empty: read from the workspace, which needs a role that can.')
param sentinelWorkspaceId string = ''

@description('GUID of the Entra tenant of the workspace.')
param tenantId string = tenant().tenantId

@description('Client id of an Entra application that uploads. Empty: the app\'s managed identity does, without any secret.')
param applicationClientId string = ''

@description('Client secret of that application. Empty keeps the secret that the vault holds.')
@secure()
param applicationClientSecret string = ''

@description('Object id of that application\'s service principal (not of the application), for its role on the workspace.')
param applicationPrincipalId string = ''

@description('Assign Microsoft Sentinel Contributor on the workspace to who uploads; false where somebody else does it.')
param assignSentinelRole bool = true

@description('Add the feed\'s page to Sentinel\'s data connectors.')
param createSentinelPage bool = true

@description('Requests a minute to Sentinel, of all senders together; its limit is 100 for one identity.')
@minValue(1)
@maxValue(100)
param sentinelRequestsPerMinute int = 95

@description('Days after which an unchanged indicator is sent again; 0: never, as Sentinel republishes by itself.')
@minValue(0)
@maxValue(3650)
param reuploadAfterDays int = 0

// --- function app ---------------------------------------------------------------------------

@description('Memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Most instances of a scale group: each timer and queue function is a group of its own, the HTTP functions share one; always-ready instances come on top. Send slots pace the uploads, so more than a few are rarely of use.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances of the uploading function that are kept running, billed all the time. 0: started when there is work.')
@minValue(0)
@maxValue(10)
param alwaysReadyUploadInstances int = 0

@description('How an update replaces running instances: drained in batches (a preview; Microsoft does not recommend it for production yet), or stopped at once.')
@allowed(['RollingUpdate', 'Recreate'])
param siteUpdateStrategy string = 'RollingUpdate'

@description('Close the app\'s public address and give it a private endpoint. Publishing then works only from inside the network.')
param privateInbound bool = false

@description('CIDR ranges that may call the app\'s HTTP functions; empty: any address that has a function key. The app calls itself: with ranges its own subnet is let in, too, which needs a service endpoint for Microsoft.Web on an existing subnet.')
param allowedIpRanges array = []

@description('Further app settings by name, for those that the template leaves to their defaults: { MAX_PAGES: \'500\' }.')
param settingOverrides object = {}

// --- network --------------------------------------------------------------------------------

@description('Make the virtual network; false: use one that exists.')
param createVirtualNetwork bool = true

@description('Name of the virtual network, new or existing.')
param virtualNetworkName string = 'lumen-threatfeed-vnet'

@description('Resource group of an existing virtual network, in this subscription.')
param virtualNetworkResourceGroup string = resourceGroup().name

@description('Address space of a new virtual network.')
param virtualNetworkPrefix string = '10.0.0.0/16'

@description('Subnet that the app calls out from: delegated to Microsoft.App/environments, /27 or larger, no underscore in its name, used by nothing else.')
param functionSubnetName string = 'functionapp-subnet'

@description('Address range of a new function subnet.')
param functionSubnetPrefix string = '10.0.1.0/24'

@description('Resource id of a NAT gateway for a new function subnet; empty: none. One that is attached by hand is taken off by the next deployment.')
param natGatewayId string = ''

@description('Resource id of a route table for a new function subnet; empty: none. One that is attached by hand is taken off by the next deployment.')
param routeTableId string = ''

@description('Subnet of the private endpoints; not delegated.')
param endpointSubnetName string = 'privateendpoint-subnet'

@description('Address range of a new private endpoint subnet.')
param endpointSubnetPrefix string = '10.0.2.0/24'

@description('Make the private DNS zones and link them to the network; false: use those named below.')
param createPrivateDnsZones bool = true

@description('Resource id of an existing private DNS zone for blob storage.')
param blobDnsZoneId string = ''

@description('Resource id of an existing private DNS zone for queue storage.')
param queueDnsZoneId string = ''

@description('Resource id of an existing private DNS zone for table storage.')
param tableDnsZoneId string = ''

@description('Resource id of an existing private DNS zone for file storage.')
param fileDnsZoneId string = ''

@description('Resource id of an existing private DNS zone for Key Vault.')
param vaultDnsZoneId string = ''

@description('Resource id of an existing private DNS zone for function apps; only with privateInbound.')
param sitesDnsZoneId string = ''

// --- monitoring -----------------------------------------------------------------------------

@description('Resource id of the Log Analytics workspace for telemetry and diagnostics; by default Sentinel\'s own.')
param logWorkspaceResourceId string = sentinelWorkspaceResourceId

@description('Log each request to the storage services. Many: the host looks at its queues every few seconds.')
param logStorageRequests bool = false

@description('Send the host\'s log to the workspace a second time, beside Application Insights; for the search after a fault there.')
param logHost bool = false

@description('Alert when no sync run was complete for 45 minutes.')
param createAlerts bool = true

@description('E-mail address that alerts go to; empty: none.')
param alertEmail string = ''

@description('Resource ids of existing action groups that alerts go to.')
param alertActionGroupIds array = []

// --- what follows from them -----------------------------------------------------------------

var suffix = uniqueString(resourceGroup().id, functionNamePrefix)
var prefix = toLower(functionNamePrefix)

// The names that the code has for them: tests hold the two together.
var queueNames = [
  'sentinel-upload'
  'sentinel-upload-poison'
]
var tableNames = [
  'chunks'
  'control'
  'poison'
  'rejections'
  'versions'
]

// What differs between the clouds and that environment() does not know.
var clouds = {
  AzureCloud: {
    entraAuthorityHost: 'https://login.microsoftonline.com'
    sentinelBaseUrl: 'https://api.ti.sentinel.azure.com'
    sentinelAudience: 'https://management.azure.com'
    vaultZone: 'privatelink.vaultcore.azure.net'
    sitesZone: 'privatelink.azurewebsites.net'
  }
  AzureUSGovernment: {
    entraAuthorityHost: 'https://login.microsoftonline.us'
    sentinelBaseUrl: 'https://api.ti.sentinel.azure.us'
    sentinelAudience: 'https://management.usgovcloudapi.net'
    vaultZone: 'privatelink.vaultcore.usgovcloudapi.net'
    sitesZone: 'privatelink.azurewebsites.us'
  }
}

// /subscriptions/<2>/resourceGroups/<4>/providers/Microsoft.OperationalInsights/workspaces/<8>
var sentinelWorkspace = split(sentinelWorkspaceResourceId, '/')
var useApplication = !empty(applicationClientId)
var uploaderIsKnown = (!useApplication) || (!empty(applicationPrincipalId))
var blobZone = 'privatelink.blob.${environment().suffixes.storage}'
var queueZone = 'privatelink.queue.${environment().suffixes.storage}'
var tableZone = 'privatelink.table.${environment().suffixes.storage}'
var fileZone = 'privatelink.file.${environment().suffixes.storage}'

// A module's arguments are evaluated even where its condition is false. So what reads an output of
// a conditional module asks for that module's whole condition.
var makeSitesZone = createPrivateDnsZones && privateInbound
var makeActionGroup = createAlerts && !empty(alertEmail)

resource existingSentinelWorkspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  scope: resourceGroup(sentinelWorkspace[2], sentinelWorkspace[4])
  name: sentinelWorkspace[8]
}

// --- identity, network ----------------------------------------------------------------------

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    identityName: '${prefix}-${suffix}-id'
    location: location
    tags: tags
  }
}

module network 'modules/network.bicep' = if (createVirtualNetwork) {
  name: 'network'
  params: {
    location: location
    tags: tags
    virtualNetworkName: virtualNetworkName
    virtualNetworkPrefix: virtualNetworkPrefix
    functionSubnetName: functionSubnetName
    functionSubnetPrefix: functionSubnetPrefix
    natGatewayId: natGatewayId
    routeTableId: routeTableId
    endpointSubnetName: endpointSubnetName
    endpointSubnetPrefix: endpointSubnetPrefix
  }
}

var existingNetworkId = resourceId(virtualNetworkResourceGroup, 'Microsoft.Network/virtualNetworks', virtualNetworkName)
var existingFunctionSubnetId = '${existingNetworkId}/subnets/${functionSubnetName}'
var existingEndpointSubnetId = '${existingNetworkId}/subnets/${endpointSubnetName}'
var networkId = createVirtualNetwork ? network!.outputs.virtualNetworkId : existingNetworkId
var functionSubnetId = createVirtualNetwork ? network!.outputs.functionSubnetId : existingFunctionSubnetId
var endpointSubnetId = createVirtualNetwork ? network!.outputs.endpointSubnetId : existingEndpointSubnetId

module blobDns 'modules/private-dns-zone.bicep' = if (createPrivateDnsZones) {
  name: 'dns-blob'
  params: {
    zoneName: blobZone
    virtualNetworkId: networkId
    tags: tags
  }
}

module queueDns 'modules/private-dns-zone.bicep' = if (createPrivateDnsZones) {
  name: 'dns-queue'
  params: {
    zoneName: queueZone
    virtualNetworkId: networkId
    tags: tags
  }
}

module tableDns 'modules/private-dns-zone.bicep' = if (createPrivateDnsZones) {
  name: 'dns-table'
  params: {
    zoneName: tableZone
    virtualNetworkId: networkId
    tags: tags
  }
}

module fileDns 'modules/private-dns-zone.bicep' = if (createPrivateDnsZones) {
  name: 'dns-file'
  params: {
    zoneName: fileZone
    virtualNetworkId: networkId
    tags: tags
  }
}

module vaultDns 'modules/private-dns-zone.bicep' = if (createPrivateDnsZones) {
  name: 'dns-vault'
  params: {
    zoneName: clouds[cloud].vaultZone
    virtualNetworkId: networkId
    tags: tags
  }
}

module sitesDns 'modules/private-dns-zone.bicep' = if (makeSitesZone) {
  name: 'dns-sites'
  params: {
    zoneName: clouds[cloud].sitesZone
    virtualNetworkId: networkId
    tags: tags
  }
}

// --- storage, vault -------------------------------------------------------------------------

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    accountName: '${replace(prefix, '-', '')}${suffix}'
    location: location
    tags: tags
    zoneRedundant: zoneRedundant
    queueNames: queueNames
    tableNames: tableNames
    deploymentContainerName: 'deployments'
    logWorkspaceId: logWorkspaceResourceId
    logRequests: logStorageRequests
  }
}

module storageAccess 'modules/storage-access.bicep' = {
  name: 'storage-access'
  params: {
    accountName: storage.outputs.accountName
    principalId: identity.outputs.principalId
    queueNames: queueNames
    tableNames: tableNames
  }
}

module vault 'modules/key-vault.bicep' = {
  name: 'key-vault'
  params: {
    vaultName: 'kv-${suffix}'
    location: location
    tags: tags
    principalId: identity.outputs.principalId
    lumenApiKey: lumenApiKey
    clientSecret: applicationClientSecret
    logWorkspaceId: logWorkspaceResourceId
  }
}

module blobEndpoint 'modules/private-endpoint.bicep' = {
  name: 'endpoint-blob'
  params: {
    endpointName: '${prefix}-${suffix}-blob-pe'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: storage.outputs.accountId
    groupId: 'blob'
    dnsZoneId: createPrivateDnsZones ? blobDns!.outputs.zoneId : blobDnsZoneId
  }
}

module queueEndpoint 'modules/private-endpoint.bicep' = {
  name: 'endpoint-queue'
  params: {
    endpointName: '${prefix}-${suffix}-queue-pe'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: storage.outputs.accountId
    groupId: 'queue'
    dnsZoneId: createPrivateDnsZones ? queueDns!.outputs.zoneId : queueDnsZoneId
  }
}

module tableEndpoint 'modules/private-endpoint.bicep' = {
  name: 'endpoint-table'
  params: {
    endpointName: '${prefix}-${suffix}-table-pe'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: storage.outputs.accountId
    groupId: 'table'
    dnsZoneId: createPrivateDnsZones ? tableDns!.outputs.zoneId : tableDnsZoneId
  }
}

module fileEndpoint 'modules/private-endpoint.bicep' = {
  name: 'endpoint-file'
  params: {
    endpointName: '${prefix}-${suffix}-file-pe'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: storage.outputs.accountId
    groupId: 'file'
    dnsZoneId: createPrivateDnsZones ? fileDns!.outputs.zoneId : fileDnsZoneId
  }
}

module vaultEndpoint 'modules/private-endpoint.bicep' = {
  name: 'endpoint-vault'
  params: {
    endpointName: '${prefix}-${suffix}-vault-pe'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: vault.outputs.vaultId
    groupId: 'vault'
    dnsZoneId: createPrivateDnsZones ? vaultDns!.outputs.zoneId : vaultDnsZoneId
  }
}

// --- monitoring, Sentinel -------------------------------------------------------------------

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    componentName: '${prefix}-${suffix}-ai'
    location: location
    tags: tags
    logWorkspaceId: logWorkspaceResourceId
    principalId: identity.outputs.principalId
  }
}

module sentinelAccess 'modules/sentinel-access.bicep' = if (assignSentinelRole && uploaderIsKnown) {
  name: '${prefix}-sentinel-access'
  scope: resourceGroup(sentinelWorkspace[2], sentinelWorkspace[4])
  params: {
    workspaceName: sentinelWorkspace[8]
    principalId: useApplication ? applicationPrincipalId : identity.outputs.principalId
  }
}

module sentinelPage 'modules/sentinel-page.bicep' = if (createSentinelPage) {
  name: '${prefix}-sentinel-page'
  scope: resourceGroup(sentinelWorkspace[2], sentinelWorkspace[4])
  params: {
    workspaceName: sentinelWorkspace[8]
    functionAppName: functionApp.outputs.appName
    functionAppResourceGroup: resourceGroup().name
  }
}

// --- function app ---------------------------------------------------------------------------

// The host starts as soon as the app exists, and publishing follows at once: the ways to storage
// and vault, the names that lead there and the roles have to be ready before.
module functionApp 'modules/function-app.bicep' = {
  name: 'function-app'
  params: {
    appName: '${prefix}-${suffix}'
    location: location
    tags: tags
    identityId: identity.outputs.identityId
    identityClientId: identity.outputs.clientId
    subnetId: functionSubnetId
    blobEndpoint: storage.outputs.blobEndpoint
    queueEndpoint: storage.outputs.queueEndpoint
    tableEndpoint: storage.outputs.tableEndpoint
    deploymentContainerName: storage.outputs.deploymentContainerName
    applicationInsightsConnectionString: monitoring.outputs.connectionString
    logWorkspaceId: logWorkspaceResourceId
    logHost: logHost
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyUploadInstances: alwaysReadyUploadInstances
    siteUpdateStrategy: siteUpdateStrategy
    zoneRedundant: zoneRedundant
    privateInbound: privateInbound
    allowedIpRanges: allowedIpRanges
    lumenApiKeyUri: vault.outputs.lumenApiKeyUri
    clientSecretUri: useApplication ? vault.outputs.clientSecretUri : ''
    workspaceId: empty(sentinelWorkspaceId) ? existingSentinelWorkspace.properties.customerId : sentinelWorkspaceId
    tenantId: tenantId
    clientId: useApplication ? applicationClientId : identity.outputs.clientId
    entraAuthorityHost: clouds[cloud].entraAuthorityHost
    sentinelBaseUrl: clouds[cloud].sentinelBaseUrl
    sentinelAudience: clouds[cloud].sentinelAudience
    lumenSchedule: lumenSchedule
    lumenConfidenceThreshold: lumenConfidenceThreshold
    lumenEnableIpv4: lumenEnableIpv4
    lumenEnableDomain: lumenEnableDomain
    sentinelRequestsPerMinute: sentinelRequestsPerMinute
    reuploadAfterDays: reuploadAfterDays
    settingOverrides: settingOverrides
  }
  dependsOn: [
    blobDns
    queueDns
    tableDns
    fileDns
    vaultDns
    blobEndpoint
    queueEndpoint
    tableEndpoint
    fileEndpoint
    vaultEndpoint
    storageAccess
    sentinelAccess
  ]
}

module sitesEndpoint 'modules/private-endpoint.bicep' = if (privateInbound) {
  name: 'endpoint-sites'
  params: {
    endpointName: '${prefix}-${suffix}-sites-pe'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: functionApp.outputs.appId
    groupId: 'sites'
    dnsZoneId: makeSitesZone ? sitesDns!.outputs.zoneId : sitesDnsZoneId
  }
}

// --- alerts ---------------------------------------------------------------------------------

module actionGroup 'modules/action-group.bicep' = if (makeActionGroup) {
  name: 'action-group'
  params: {
    actionGroupName: '${prefix}-${suffix}-operators'
    tags: tags
    emailAddress: alertEmail
  }
}

var ownActionGroupIds = makeActionGroup ? array(actionGroup!.outputs.actionGroupId) : []

module alertNoCompleteSync 'modules/alert-no-complete-sync.bicep' = if (createAlerts) {
  name: 'alert-no-complete-sync'
  params: {
    alertName: '${prefix}-${suffix}-no-complete-sync'
    location: location
    tags: tags
    componentId: monitoring.outputs.componentId
    actionGroupIds: concat(alertActionGroupIds, ownActionGroupIds)
  }
}

// --- what a deployment hands on -------------------------------------------------------------

@description('Resource group of the app; azd and the workflow publish to it.')
output AZURE_RESOURCE_GROUP string = resourceGroup().name

@description('Name of the function app.')
output AZURE_FUNCTION_NAME string = functionApp.outputs.appName

@description('Address of the HTTP functions.')
output AZURE_FUNCTION_URL string = 'https://${functionApp.outputs.hostName}'

@description('Name of the storage account.')
output AZURE_STORAGE_NAME string = storage.outputs.accountName

@description('Name of the key vault.')
output AZURE_KEY_VAULT_NAME string = vault.outputs.vaultName

@description('Object id of the app\'s identity, for a role that somebody else assigns.')
output PIPELINE_PRINCIPAL_ID string = identity.outputs.principalId

@description('Client id of the app\'s identity.')
output PIPELINE_CLIENT_ID string = identity.outputs.clientId
