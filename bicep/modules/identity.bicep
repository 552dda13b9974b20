// Who the app is: one user-assigned identity, so that its roles can exist before the app does.

import { names as nameMap, place as placeType } from '../types.bicep'

@description('Region and tags.')
param place placeType

@description('Names of what is made.')
param names nameMap

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: names.identity
  location: place.location
  tags: place.tags
}

@description('Client id: what an app names the identity by.')
output clientId string = identity.properties.clientId

@description('Object id: what a role is assigned to.')
output principalId string = identity.properties.principalId
