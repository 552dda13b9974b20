"""Resource types that the schema tool cannot describe, or only in a version without what we use.

Written down from github.com/Azure/bicep-types-az (generated/monitor, generated/privatedns,
generated/securityinsights; read 2026-11-22) and, for the data connector's page, checked against
the models of the Python package azure-mgmt-securityinsight 2.0.0b2. Each text: the API version,
then one paragraph an object, the resource first; `!` marks a required property, `<` one that is
read-only, `*` the type of any other property. Parts that no file here uses are left out, so using
one fails until it is written down.
"""

WRITTEN = {
    "Microsoft.Network/privateDnsZones": """
2024-06-01

Microsoft.Network/privateDnsZones
id<: string
name!: string
location: string
etag: string
tags: Tags
properties: PrivateZoneProperties

Tags
*: string

PrivateZoneProperties
provisioningState<: string
""",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": """
2024-06-01

Microsoft.Network/privateDnsZones/virtualNetworkLinks
id<: string
name!: string
location: string
etag: string
tags: Tags
properties: VirtualNetworkLinkProperties

Tags
*: string

VirtualNetworkLinkProperties
provisioningState<: string
virtualNetworkLinkState<: string
registrationEnabled: bool
resolutionPolicy: Default | NxDomainRedirect | string
virtualNetwork: SubResource

SubResource
id: string
""",
    "Microsoft.Insights/diagnosticSettings": """
2021-05-01-preview

Microsoft.Insights/diagnosticSettings
id<: string
name!: string
properties: DiagnosticSettings

DiagnosticSettings
eventHubAuthorizationRuleId: string
eventHubName: string
logAnalyticsDestinationType: string
logs: LogSettings[]
marketplacePartnerId: string
metrics: MetricSettings[]
serviceBusRuleId: string
storageAccountId: string
workspaceId: string

LogSettings
category: string
categoryGroup: string
enabled!: bool

MetricSettings
category: string
enabled!: bool
timeGrain: string
""",
    "Microsoft.Insights/actionGroups": """
2023-01-01

Microsoft.Insights/actionGroups
id<: string
name!: string
location!: string
tags: Tags
properties: ActionGroup

Tags
*: string

ActionGroup
enabled!: bool
groupShortName!: string
emailReceivers: EmailReceiver[]

EmailReceiver
name!: string
emailAddress!: string
status<: NotSpecified | Enabled | Disabled
useCommonAlertSchema: bool
""",
    "Microsoft.Insights/scheduledQueryRules": """
2023-12-01

Microsoft.Insights/scheduledQueryRules
id<: string
etag<: string
name!: string
location!: string
kind: LogAlert | LogToMetric | string
tags: Tags
properties!: ScheduledQueryRuleProperties

Tags
*: string

ScheduledQueryRuleProperties
actions: Actions
autoMitigate: bool
checkWorkspaceAlertsStorageConfigured: bool
createdWithApiVersion<: string
criteria: ScheduledQueryRuleCriteria
description: string
displayName: string
enabled: bool
evaluationFrequency: string
isLegacyLogAnalyticsRule<: bool
muteActionsDuration: string
overrideQueryTimeRange: string
scopes: string[]
severity: int
skipQueryValidation: bool
targetResourceTypes: string[]
windowSize: string

Actions
actionGroups: string[]
customProperties: Tags

ScheduledQueryRuleCriteria
allOf: Condition[]

Condition
failingPeriods: ConditionFailingPeriods
metricMeasureColumn: string
operator: Equals | GreaterThan | GreaterThanOrEqual | LessThan | LessThanOrEqual | string
query: string
resourceIdColumn: string
threshold: int
timeAggregation: Average | Count | Maximum | Minimum | Total | string

ConditionFailingPeriods
minFailingPeriodsToAlert: int
numberOfEvaluationPeriods: int
""",
    "Microsoft.SecurityInsights/dataConnectors": """
2024-10-01-preview

Microsoft.SecurityInsights/dataConnectors
id<: string
etag: string
name!: string
kind!: GenericUI
properties: CodelessParameters

CodelessParameters
connectorUiConfig: ConnectorUiConfig

ConnectorUiConfig
title!: string
publisher!: string
descriptionMarkdown!: string
customImage: string
graphQueriesTableName!: string
graphQueries!: GraphQuery[]
sampleQueries!: SampleQuery[]
dataTypes!: DataType[]
connectivityCriteria!: ConnectivityCriterion[]
availability!: Availability
permissions!: Permissions
instructionSteps!: InstructionStep[]

GraphQuery
metricName: string
legend: string
baseQuery: string

SampleQuery
description: string
query: string

DataType
name: string
lastDataReceivedQuery: string

ConnectivityCriterion
type: IsConnectedQuery | string
value: string[]

Availability
status: int
isPreview: bool

Permissions
resourceProvider: ResourceProvider[]
customs: Custom[]

ResourceProvider
provider: string
permissionsDisplayText: string
providerDisplayName: string
scope: Subscription | ResourceGroup | Workspace | string
requiredPermissions: RequiredPermissions

RequiredPermissions
action: bool
write: bool
read: bool
delete: bool

Custom
name: string
description: string

InstructionStep
title: string
description: string
instructions: Instruction[]

Instruction
type!: string
parameters: any
""",
}
