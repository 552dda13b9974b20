// Who the app is: one user-assigned identity, so that its roles can exist before the app does.

@description('Name of the identity.')
param identityName string

@description('Region of the identity.')
param location string

@description('Tags of every resource.')
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: identityName
  location: location
  tags: tags
}

@description('Resource id of the identity.')
output identityId string = identity.id

@description('Client id: what an app names the identity by.')
output clientId string = identity.properties.clientId

@description('Object id: what a role is given to.')
output principalId string = identity.properties.principalId
