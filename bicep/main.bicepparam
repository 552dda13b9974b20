// Parameters from environment variables: what azd and the deployment workflow use. To deploy with
// az alone, start from one of the files in examples/.
using 'main.bicep'

param location = readEnvironmentVariable('AZURE_LOCATION')
param functionNamePrefix = readEnvironmentVariable('FUNCTION_NAME_PREFIX', 'lumenfeed')

param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param lumenConfidenceThreshold = int(readEnvironmentVariable('LUMEN_CONFIDENCE_THRESHOLD', '65'))

param sentinelWorkspaceResourceId = readEnvironmentVariable('SENTINEL_WORKSPACE_RESOURCE_ID')
param applicationClientId = readEnvironmentVariable('APPLICATION_CLIENT_ID', '')
param applicationClientSecret = readEnvironmentVariable('APPLICATION_CLIENT_SECRET', '')
param applicationPrincipalId = readEnvironmentVariable('APPLICATION_PRINCIPAL_ID', '')
// As in the template: an application may have the role already, and a second assignment is refused.
var assign = readEnvironmentVariable('ASSIGN_SENTINEL_ROLE', '')
param assignSentinelRole = empty(assign) ? empty(applicationClientId) : bool(assign)

param virtualNetworkResourceId = readEnvironmentVariable('VIRTUAL_NETWORK_RESOURCE_ID', '')
param functionSubnetName = readEnvironmentVariable('FUNCTION_SUBNET_NAME', 'functionapp-subnet')
param endpointSubnetName = readEnvironmentVariable('ENDPOINT_SUBNET_NAME', 'privateendpoint-subnet')
param createNatGateway = bool(readEnvironmentVariable('CREATE_NAT_GATEWAY', 'false'))
param usePrivateEndpoints = bool(readEnvironmentVariable('USE_PRIVATE_ENDPOINTS', 'true'))

param privateDns = readEnvironmentVariable('PRIVATE_DNS', 'create')
param privateDnsZoneIds = {
  blob: readEnvironmentVariable('BLOB_DNS_ZONE_ID', '')
  queue: readEnvironmentVariable('QUEUE_DNS_ZONE_ID', '')
  table: readEnvironmentVariable('TABLE_DNS_ZONE_ID', '')
  file: readEnvironmentVariable('FILE_DNS_ZONE_ID', '')
  vault: readEnvironmentVariable('VAULT_DNS_ZONE_ID', '')
  sites: readEnvironmentVariable('SITES_DNS_ZONE_ID', '')
}
param privateInbound = bool(readEnvironmentVariable('PRIVATE_INBOUND', 'false'))

param alertEmail = readEnvironmentVariable('ALERT_EMAIL', '')
param packageUri = readEnvironmentVariable('PACKAGE_URI', '')
