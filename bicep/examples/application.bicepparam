// An Entra application uploads, as where managed identities may not have roles in Sentinel. Its
// secret comes from the environment: APPLICATION_CLIENT_SECRET. Where it has the role on the
// workspace already, as after the official connector, leave assignSentinelRole out: a second
// assignment is refused.
using '../main.bicep'

param cloud = 'AzureCloud'
param lumenApiKey = readEnvironmentVariable('LUMEN_API_KEY', '')
param sentinelWorkspaceResourceId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/soc/providers/Microsoft.OperationalInsights/workspaces/soc-sentinel'
param alertEmail = 'soc@example.com'
param tags = {
  owner: 'soc'
}

param applicationClientId = '11111111-1111-1111-1111-111111111111'
param applicationPrincipalId = '22222222-2222-2222-2222-222222222222'
param applicationClientSecret = readEnvironmentVariable('APPLICATION_CLIENT_SECRET', '')
param applicationCredentialEnds = '2027-01-31'
param assignSentinelRole = true

// Another registration, with the roles reader and operator: by it operators sign in.
param operatorClientId = '33333333-3333-3333-3333-333333333333'
