// Application Insights on a Log Analytics workspace; telemetry is taken with Entra tokens only, so
// a connection string by itself opens nothing.

@description('Name of the Application Insights component.')
param componentName string

@description('Region of the component.')
param location string

@description('Tags of every resource.')
param tags object

@description('Resource id of the Log Analytics workspace that holds the telemetry.')
param logWorkspaceId string

@description('Object id of the app\'s identity.')
param principalId string

var monitoringMetricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource component 'Microsoft.Insights/components@2020-02-02' = {
  name: componentName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    DisableLocalAuth: true
    IngestionMode: 'LogAnalytics'
    WorkspaceResourceId: logWorkspaceId
  }
}

// Telemetry of host and worker: without local authentication it is refused without this role.
resource publisher 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: component
  name: guid(component.id, principalId, monitoringMetricsPublisher)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', monitoringMetricsPublisher)
  }
}

@description('Resource id of the component.')
output componentId string = component.id

@description('Where telemetry is sent; an address and an id, of no use without an Entra token.')
output connectionString string = component.properties.ConnectionString
