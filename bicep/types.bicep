// The types that main.bicep and its modules share.

@export()
@description('Tags of every resource.')
type tags = { *: string }

@export()
@description('Where a resource is made, and its tags.')
type place = {
  location: string
  @description('Spread over the zones of the region: storage keeps its copies there, the plan its instances.')
  zoneRedundant: bool
  tags: tags
}

@export()
@description('The names of what is made, known before the deployment.')
type names = {
  app: string
  identity: string
  account: string
  @description('The container of the storage account that holds the published code.')
  container: string
  vault: string
  component: string
  @description('Resource id of the Log Analytics workspace for telemetry and diagnostics, new or existing.')
  logWorkspaceId: string
}

@export()
@description('App settings by name.')
type settings = { *: string }

@export()
@description('Private DNS zones of the endpoints: new ones, existing ones, or those that a policy writes to.')
type privateDns = 'create' | 'existing' | 'policy'

@export()
@description('Part of a target that a private endpoint leads to.')
type endpointPart = 'blob' | 'queue' | 'table' | 'file' | 'vault' | 'sites'

@export()
@description('Resource ids of existing private DNS zones.')
type dnsZoneIds = {
  blob: string
  queue: string
  table: string
  @description('Only with createFileEndpoint.')
  file: string?
  vault: string
  @description('Only with privateInbound.')
  sites: string?
}

@export()
@description('What the private endpoints of one deployment have in common.')
type endpointPlan = {
  @description('Cloud whose names the zones have.')
  cloud: string
  @description('Resource id of the virtual network that resolves the names.')
  networkId: string
  @description('Whether others use that network, too.')
  isShared: bool
  @description('Resource id of the subnet of the endpoints.')
  subnetId: string
  privateDns: privateDns
  zoneIds: dnsZoneIds?
}

@export()
@description('A subnet to make: its name and its address range.')
type subnet = {
  name: string
  prefix: string
}

@export()
@description('What differs for one alert from what the list of the template says.')
type alertChange = {
  @description('false: the alert is not made.')
  enabled: bool?
  @description('As Azure Monitor counts: 0 is critical, 4 is verbose. In Sentinel 0 and 1 are high.')
  severity: (0 | 1 | 2 | 3 | 4)?
  @description('How often it is asked, as a duration: PT15M.')
  frequency: string?
  @description('How long it is silent after it fired, as a duration: PT4H. An alert rule then does not end by itself.')
  mute: string?
}

@export()
@sealed()
@description('Changes by the name of the alert.')
type alertChanges = {
  'no-progress': alertChange?
  gap: alertChange?
  books: alertChange?
  problem: alertChange?
  poison: alertChange?
  backlog: alertChange?
  'nothing-arrived': alertChange?
  pending: alertChange?
  secret: alertChange?
  package: alertChange?
}

@export()
@description('What is watched.')
type watchPlan = {
  location: string
  tags: tags
  appName: string
  @description('Resource id of the Application Insights component that has the log lines.')
  componentId: string
  @description('Schedule of the sync runs.')
  schedule: string
  @description('Day on which the client secret ends, as 2027-01-31; empty: there is none, or it is not known.')
  credentialEnds: string
}

@export()
@description('What an operator may choose for the rules.')
type rulePlan = {
  @description('Make the rules and the hunting queries.')
  create: bool
  @description('Days for which an indicator without an end counts as valid, since it was modified last.')
  daysWithoutEnd: int
  @description('Leave out traffic that a device says it blocked.')
  allowedOnly: bool
}

@export()
@description('Where a workbook is and what it asks.')
type workbookPlan = {
  name: string
  @description('In Markdown, above the tiles.')
  text: string
  location: string
  tags: tags
  category: 'workbook' | 'sentinel'
  @description('Resource id of the component or workspace that its queries ask.')
  sourceId: string
  resourceType: 'microsoft.insights/components' | 'microsoft.operationalinsights/workspaces'
  @description('How far it looks back at first.')
  days: int
  @description('Whether it asks for an address or a domain.')
  asksForValue: bool
}

@export()
@description('A part of a workbook: one query, and how it looks.')
type workbookTile = {
  title: string
  query: string
  @description('In percent of the page.')
  width: '50' | '100'
  @description('What it says when the query finds nothing.')
  none: string?
}
