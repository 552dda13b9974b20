// Everything the pipeline needs in Azure, in one resource group: network, storage, vault, identity, monitoring, app.
// Sentinel's workspace, an existing network and central DNS zones may be elsewhere. docs/deploy.md leads through it.

import * as refusals from 'refusals.bicep'
import {
  alertChanges as alertChangeMap
  dnsZoneIds
  privateDns as privateDnsChoice
  settings as settingMap
  tags as tagMap
} from 'types.bicep'

metadata name = 'Lumen to Sentinel pipeline'
metadata description = 'Lumen threat indicators into Microsoft Sentinel, through a queue in a private network.'
metadata version = '0.1.0'

// --- names and places -----------------------------------------------------------------------

@description('Start of every name: letters and digits, in any case. 13 characters that make it unique are added.')
@minLength(3)
@maxLength(11)
param functionNamePrefix string = 'lumenfeed'

@description('Region of all resources; an existing network must be in the same.')
param location string = resourceGroup().location

@description('Tags of every resource.')
param tags tagMap = {}

@description('Spread over zones: decide first, storage cannot move. Bills two always-ready instances per scale group.')
param zoneRedundant bool = false

@description('AzureCloud or AzureUSGovernment: the cloud decides where Entra, Sentinel and DNS are.')
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

@description('Send revoked indicators of which nothing is known: another connector may have uploaded them.')
param sendUnknownRevoked bool = false

@description('Schedule of the sync runs: NCRONTAB, six fields, UTC.')
param lumenSchedule string = '0 */15 * * * *'

// --- Sentinel -------------------------------------------------------------------------------

@description('Resource id of the Log Analytics workspace that Sentinel runs on, in any subscription of the tenant.')
param sentinelWorkspaceResourceId string

@description('GUID of that workspace. Empty: read from the workspace, which needs a role that can.')
param sentinelWorkspaceId string = ''

@description('GUID of the Entra tenant of the workspace.')
param tenantId string = tenant().tenantId

@description('Client id of an Entra application that uploads. Empty: the app\'s managed identity does.')
param applicationClientId string = ''

@description('Client secret of that application. Empty keeps the secret that the vault holds.')
@secure()
param applicationClientSecret string = ''

@description('Day on which that secret ends, as 2027-01-31: an alert comes 30 days before. Empty: no alert.')
param applicationCredentialEnds string = ''

@description('Object id of that application\'s service principal, not of the application, for its role.')
param applicationPrincipalId string = ''

@description('Assign Microsoft Sentinel Contributor to who uploads. Azure refuses it to who has it already.')
param assignSentinelRole bool = empty(applicationClientId)

@description('Add the feed\'s page to Sentinel\'s data connectors.')
param createSentinelPage bool = true

@description('Add two rules and two hunting queries to Sentinel, for firewall and DNS logs.')
param createRules bool = false

@description('Days for which an indicator without an end counts as valid, in those and in the workbook.')
@minValue(1)
@maxValue(365)
param daysWithoutEnd int = 90

@description('Let the rules leave out what a device says it blocked.')
param matchAllowedOnly bool = true

// --- function app ---------------------------------------------------------------------------

@description('Memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Most instances of a scale group: each timer and queue function is one, the HTTP functions share one.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Always-ready instances of the upload function, always billed. 0: on demand, or two where zoneRedundant.')
@minValue(0)
@maxValue(10)
param alwaysReadyUploadInstances int = 0

@description('Close the app\'s public address and give it a private endpoint; so for publishing, too.')
param privateInbound bool = false

@description('CIDR ranges that may call the HTTP functions, beside the app\'s own subnet; empty: any that has a key.')
param allowedIpRanges string[] = []

@description('Client id of an Entra registration by which operators sign in, with roles. Empty: function keys.')
param operatorClientId string = ''

@description('Further app settings by name, for those without a parameter: { MAX_PAGES: \'500\' }.')
param settingOverrides settingMap = {}

@description('Address of a release package, published by this deployment. Empty: publish with azd or az afterwards.')
param packageUri string = ''

// --- network --------------------------------------------------------------------------------

@description('Resource id of an existing virtual network, in any subscription. Empty: a new one is made.')
param virtualNetworkResourceId string = ''

@description('Name of a new virtual network.')
param virtualNetworkName string = 'lumen-threatfeed-vnet'

@description('Address space of a new virtual network.')
param virtualNetworkPrefix string = '10.0.0.0/16'

@description('Function subnet: delegated to Microsoft.App/environments, /27 or larger, no underscore, not shared.')
param functionSubnetName string = 'functionapp-subnet'

@description('Address range of a new function subnet.')
param functionSubnetPrefix string = '10.0.1.0/24'

@description('Make a NAT gateway for a new function subnet: an outgoing address of its own, and a private subnet.')
param createNatGateway bool = false

@description('Resource id of an existing NAT gateway for a new function subnet; empty: none.')
param natGatewayId string = ''

@description('Resource id of an existing route table for a new function subnet; empty: none.')
param routeTableId string = ''

@description('Subnet of the private endpoints; not delegated.')
param endpointSubnetName string = 'privateendpoint-subnet'

@description('Address range of a new subnet of the private endpoints.')
param endpointSubnetPrefix string = '10.0.2.0/24'

@description('Reach storage and vault by private endpoints; false: from the function subnet, by service endpoints.')
param usePrivateEndpoints bool = true

@description('Make the private endpoint of file storage, too. The pipeline keeps nothing in files.')
param createFileEndpoint bool = true

@description('Private DNS zones: create, existing (in privateDnsZoneIds), or policy, where Azure Policy has them.')
param privateDns privateDnsChoice = 'create'

@description('Resource ids of existing private DNS zones.')
param privateDnsZoneIds dnsZoneIds?

// --- monitoring -----------------------------------------------------------------------------

@description('Resource id of the Log Analytics workspace for telemetry and diagnostics. Empty: a small one is made.')
param logWorkspaceResourceId string = ''

@description('For the search after a fault: log each request to storage, and the host\'s log a second time.')
param logDetails bool = false

@description('Alert when the feed stops, waits or loses something. Without a receiver it only shows in the portal.')
param createAlerts bool = true

@description('What differs for an alert, by its name: { backlog: { enabled: false }, gap: { mute: \'PT4H\' } }.')
param alertChanges alertChangeMap = {}

@description('Make incidents in Sentinel of the alerts, and no mail. Telemetry has to go to Sentinel\'s workspace.')
param alertsInSentinel bool = false

@description('Add a workbook of the pipeline\'s health, and with createSentinelPage one of the indicators.')
param createWorkbooks bool = true

@description('E-mail address that alerts go to; empty: none.')
param alertEmail string = ''

@description('Resource ids of existing action groups that alerts go to.')
param alertActionGroupIds string[] = []

// --- what follows from them -----------------------------------------------------------------

var newNetwork = empty(virtualNetworkResourceId)
var functionSubnet = { name: functionSubnetName, prefix: functionSubnetPrefix }
var endpointSubnet = usePrivateEndpoints ? { name: endpointSubnetName, prefix: endpointSubnetPrefix } : null
var dataParts = createFileEndpoint ? ['blob', 'queue', 'table', 'file', 'vault'] : ['blob', 'queue', 'table', 'vault']
var endpointParts = concat(usePrivateEndpoints ? dataParts : [], privateInbound ? ['sites'] : [])

// All that is wrong with the input, in one error. Every name needs it, so nothing is made before.
var refused = refusals.joined([
  refusals.refusePrefix(functionNamePrefix)
  refusals.refuseCloud(cloud)
  refusals.refuseSchedule(lumenSchedule)
  refusals.refuseWorkspace('sentinelWorkspaceResourceId', sentinelWorkspaceResourceId)
  empty(logWorkspaceResourceId) ? '' : refusals.refuseWorkspace('logWorkspaceResourceId', logWorkspaceResourceId)
  refusals.refuseNoGuids({ sentinelWorkspaceId: sentinelWorkspaceId, tenantId: tenantId })
  refusals.refuseNoGuids({ operatorClientId: operatorClientId })
  refusals.refuseOverrides(objectKeys(settingOverrides))
  refusals.refusePackage(packageUri)
  refusals.refuseDay('applicationCredentialEnds', applicationCredentialEnds)
  createAlerts && alertsInSentinel
    ? refusals.refuseOtherWorkspace(logWorkspaceResourceId, sentinelWorkspaceResourceId)
    : ''
  privateDns == 'existing' ? refusals.refuseZones(endpointParts, privateDnsZoneIds) : ''
  ...refusals.refuseActionGroups(alertActionGroupIds)
  ...refusals.refuseApplication(assignSentinelRole, applicationClientId, applicationPrincipalId)
  ...refusals.refuseInbound(privateInbound, usePrivateEndpoints, allowedIpRanges)
  ...refusals.refuseWaysOut(createNatGateway, natGatewayId, routeTableId)
  ...(newNetwork
    ? refusals.refuseNewNetwork(virtualNetworkName, virtualNetworkPrefix, functionSubnet, endpointSubnet)
    : refusals.refuseExistingNetwork(virtualNetworkResourceId, functionSubnetName, endpointSubnet.?name))
])
var prefix = empty(refused) ? toLower(functionNamePrefix) : fail(refused)
var networkName = empty(refused) ? virtualNetworkName : fail(refused)
var sentinelWorkspace = split(empty(refused) ? sentinelWorkspaceResourceId : fail(refused), '/')

var place = { location: location, zoneRedundant: zoneRedundant, tags: tags }
var suffix = uniqueString(resourceGroup().id, prefix)
var ownLogWorkspaceId = resourceId('Microsoft.OperationalInsights/workspaces', '${prefix}-${suffix}-log')
var names = {
  app: '${prefix}-${suffix}'
  identity: '${prefix}-${suffix}-id'
  account: '${prefix}${suffix}'
  container: 'deployments'
  vault: 'kv-${suffix}'
  component: '${prefix}-${suffix}-ai'
  logWorkspaceId: empty(logWorkspaceResourceId) ? ownLogWorkspaceId : logWorkspaceResourceId
}
var networkId = newNetwork ? resourceId('Microsoft.Network/virtualNetworks', networkName) : virtualNetworkResourceId
var functionSubnetId = '${networkId}/subnets/${functionSubnetName}'
var onlySubnetId = usePrivateEndpoints ? '' : functionSubnetId
var endpointPlan = {
  cloud: cloud
  networkId: networkId
  isShared: !newNetwork
  subnetId: '${networkId}/subnets/${endpointSubnetName}'
  privateDns: privateDns
  zoneIds: privateDnsZoneIds
}

var actionGroupName = '${prefix}-${suffix}-operators'
var actionGroupId = resourceId('Microsoft.Insights/actionGroups', actionGroupName)
var watchPlan = {
  location: location
  tags: tags
  appName: names.app
  componentId: resourceId('Microsoft.Insights/components', names.component)
  schedule: lumenSchedule
  credentialEnds: empty(applicationClientId) ? '' : applicationCredentialEnds
}

// --- what is made ---------------------------------------------------------------------------

// A secret in a name would hide the names from every snapshot; a condition is worked out as early.
module none 'modules/none.bicep' = if (refusals.failSecret(!empty(applicationClientSecret), applicationClientId)) {}

module identity 'modules/identity.bicep' = {
  params: { place: place, names: names }
}

module network 'network.bicep' = if (newNetwork) {
  params: {
    location: location
    tags: tags
    virtualNetworkName: networkName
    virtualNetworkPrefix: virtualNetworkPrefix
    functionSubnetName: functionSubnetName
    functionSubnetPrefix: functionSubnetPrefix
    createNatGateway: createNatGateway
    natGatewayId: natGatewayId
    routeTableId: routeTableId
    createEndpointSubnet: usePrivateEndpoints
    endpointSubnetName: endpointSubnetName
    endpointSubnetPrefix: endpointSubnetPrefix
  }
}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    place: place
    names: names
    createWorkspace: empty(logWorkspaceResourceId)
    actionGroupName: actionGroupName
    emailAddress: createAlerts && !alertsInSentinel ? alertEmail : ''
  }
  dependsOn: [identity]
}

module watch 'modules/watch.bicep' = {
  params: {
    plan: watchPlan
    sentinelWorkspace: sentinelWorkspace
    createAlerts: createAlerts
    alertChanges: alertChanges
    alertsInSentinel: alertsInSentinel
    actionGroupIds: concat(alertActionGroupIds, empty(alertEmail) ? [] : [actionGroupId])
    createHealthWorkbook: createWorkbooks
    createIndicatorsWorkbook: createWorkbooks && createSentinelPage
    rules: { create: createRules, daysWithoutEnd: daysWithoutEnd, allowedOnly: matchAllowedOnly }
  }
  dependsOn: [monitoring]
}

module storage 'modules/storage.bicep' = {
  params: { place: place, names: names, onlySubnetId: onlySubnetId, logRequests: logDetails }
  dependsOn: [identity, network, monitoring]
}

module vault 'modules/key-vault.bicep' = {
  params: {
    place: place
    names: names
    onlySubnetId: onlySubnetId
    lumenApiKey: lumenApiKey
    clientSecret: applicationClientSecret
  }
  dependsOn: [identity, network, monitoring]
}

module dataEndpoints 'modules/private-endpoints.bicep' = if (usePrivateEndpoints) {
  params: { place: place, names: names, plan: endpointPlan, parts: dataParts }
  dependsOn: [network, storage, vault]
}

module sentinel 'modules/sentinel.bicep' = if (assignSentinelRole || createSentinelPage) {
  scope: resourceGroup(sentinelWorkspace[2], sentinelWorkspace[4])
  params: {
    workspaceName: sentinelWorkspace[8]
    assignRole: assignSentinelRole
    uploader: empty(applicationClientId) ? '${resourceGroup().id}/${names.identity}' : applicationPrincipalId
    principalId: empty(applicationClientId) ? identity.outputs.principalId : applicationPrincipalId
    createPage: createSentinelPage
    functionAppName: names.app
    functionAppResourceGroup: resourceGroup().name
  }
}

// The host starts as soon as the app exists: the ways to storage and vault, the names that lead
// there and the roles have to be ready before.
module functionApp 'modules/function-app.bicep' = {
  params: {
    place: place
    names: names
    subnetId: functionSubnetId
    cloud: cloud
    logHost: logDetails
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyUploadInstances: alwaysReadyUploadInstances
    privateInbound: privateInbound
    allowedIpRanges: allowedIpRanges
    sentinelWorkspaceResourceId: sentinelWorkspaceResourceId
    sentinelWorkspaceId: sentinelWorkspaceId
    tenantId: tenantId
    applicationClientId: applicationClientId
    operatorClientId: operatorClientId
    appSettings: {
      LUMEN_SCHEDULE: lumenSchedule
      LUMEN_CONFIDENCE_THRESHOLD: string(lumenConfidenceThreshold)
      LUMEN_ENABLE_IPV4: toLower(string(lumenEnableIpv4))
      LUMEN_ENABLE_DOMAIN: toLower(string(lumenEnableDomain))
      SEND_UNKNOWN_REVOKED: toLower(string(sendUnknownRevoked))
      TEMPLATE_VERSION: '0.1.0'
      ...settingOverrides
    }
  }
  dependsOn: [network, storage, vault, monitoring, dataEndpoints, sentinel]
}

module appEndpoint 'modules/private-endpoints.bicep' = if (privateInbound) {
  params: { place: place, names: names, plan: endpointPlan, parts: ['sites'] }
  dependsOn: [functionApp]
}

module code 'modules/code.bicep' = if (!empty(packageUri)) {
  params: { appName: names.app, packageUri: packageUri }
  dependsOn: [functionApp, appEndpoint]
}

@description('Resource group of the app; azd and the workflow publish to it.')
output AZURE_RESOURCE_GROUP string = resourceGroup().name

@description('Name of the function app.')
output AZURE_FUNCTION_NAME string = names.app

@description('Address of the HTTP functions.')
output AZURE_FUNCTION_URL string = 'https://${functionApp.outputs.hostName}'

@description('Object id of the app\'s identity, for a role that somebody else assigns.')
output PIPELINE_PRINCIPAL_ID string = identity.outputs.principalId

@description('What to look at in an existing network: empty, or the service endpoint that its subnet needs.')
output PIPELINE_WARNING string = newNetwork ? '' : refusals.warning(functionSubnetName, !empty(allowedIpRanges))
