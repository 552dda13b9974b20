// Parameters from environment variables: what azd and the deployment workflow use. To deploy with
// az alone, start from one of the files in examples/.
using 'main.bicep'

param location = readEnvironmentVariable('AZURE_LOCATION')
param functionNamePrefix = readEnvironmentVariable('FUNCTION_NAME_PREFIX', 'lumenfeed')

param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param lumenConfidenceThreshold = int(readEnvironmentVariable('LUMEN_CONFIDENCE_THRESHOLD', '65'))

param sentinelWorkspaceResourceId = readEnvironmentVariable('SENTINEL_WORKSPACE_RESOURCE_ID')
param assignSentinelRole = bool(readEnvironmentVariable('ASSIGN_SENTINEL_ROLE', 'true'))
param applicationClientId = readEnvironmentVariable('APPLICATION_CLIENT_ID', '')
param applicationClientSecret = readEnvironmentVariable('APPLICATION_CLIENT_SECRET', '')
param applicationPrincipalId = readEnvironmentVariable('APPLICATION_PRINCIPAL_ID', '')

param createVirtualNetwork = bool(readEnvironmentVariable('CREATE_VIRTUAL_NETWORK', 'true'))
param virtualNetworkName = readEnvironmentVariable('VIRTUAL_NETWORK_NAME', 'lumen-threatfeed-vnet')
param virtualNetworkResourceGroup = readEnvironmentVariable('VIRTUAL_NETWORK_RESOURCE_GROUP', readEnvironmentVariable('AZURE_RESOURCE_GROUP', ''))
param functionSubnetName = readEnvironmentVariable('FUNCTION_SUBNET_NAME', 'functionapp-subnet')
param endpointSubnetName = readEnvironmentVariable('ENDPOINT_SUBNET_NAME', 'privateendpoint-subnet')

param createPrivateDnsZones = bool(readEnvironmentVariable('CREATE_PRIVATE_DNS_ZONES', 'true'))
param blobDnsZoneId = readEnvironmentVariable('BLOB_DNS_ZONE_ID', '')
param queueDnsZoneId = readEnvironmentVariable('QUEUE_DNS_ZONE_ID', '')
param tableDnsZoneId = readEnvironmentVariable('TABLE_DNS_ZONE_ID', '')
param fileDnsZoneId = readEnvironmentVariable('FILE_DNS_ZONE_ID', '')
param vaultDnsZoneId = readEnvironmentVariable('VAULT_DNS_ZONE_ID', '')

param alertEmail = readEnvironmentVariable('ALERT_EMAIL', '')
