// Who is told when an alert fires.

@description('Name of the action group.')
param actionGroupName string

@description('Tags of every resource.')
param tags object

@description('E-mail address of who looks after the pipeline.')
param emailAddress string

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: actionGroupName
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'lumen-feed'
    emailReceivers: [
      {
        name: 'operators'
        emailAddress: emailAddress
        useCommonAlertSchema: true
      }
    ]
  }
}

@description('Resource id of the action group.')
output actionGroupId string = actionGroup.id
