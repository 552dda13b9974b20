// A new virtual network: one subnet for the function app to call out from, one for the private
// endpoints that it calls. Nothing comes in from the internet; out goes HTTPS and nothing else.

@description('Region of the network.')
param location string

@description('Tags of every resource.')
param tags object

@description('Name of the virtual network.')
param virtualNetworkName string

@description('Address space of the virtual network.')
param virtualNetworkPrefix string

@description('Name of the subnet that the function app is joined to; an underscore is not allowed.')
param functionSubnetName string

@description('Address range of the function app\'s subnet, /27 or larger.')
param functionSubnetPrefix string

@description('Resource id of a NAT gateway for the function app\'s subnet; empty: none.')
param natGatewayId string

@description('Resource id of a route table for the function app\'s subnet; empty: none.')
param routeTableId string

@description('Name of the subnet of the private endpoints.')
param endpointSubnetName string

@description('Address range of the private endpoints\' subnet.')
param endpointSubnetPrefix string

resource functionSecurityGroup 'Microsoft.Network/networkSecurityGroups@2024-07-01' = {
  name: '${virtualNetworkName}-${functionSubnetName}-nsg'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'deny-internet-in'
        properties: {
          description: 'Requests reach the app through its front end, never through this subnet; what the platform does inside the network stays open.'
          access: 'Deny'
          direction: 'Inbound'
          priority: 4000
          protocol: '*'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
      {
        name: 'allow-https-out'
        properties: {
          description: 'Lumen, Sentinel, Entra, Azure Monitor, the app itself and the host\'s extensions; while code is published, the package index.'
          access: 'Allow'
          direction: 'Outbound'
          priority: 200
          protocol: 'Tcp'
          sourceAddressPrefix: functionSubnetPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: 'Internet'
          destinationPortRange: '443'
        }
      }
      {
        name: 'deny-internet-out'
        properties: {
          description: 'Nothing else leaves; inside the network Azure\'s default rules hold.'
          access: 'Deny'
          direction: 'Outbound'
          priority: 4000
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: 'Internet'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource endpointSecurityGroup 'Microsoft.Network/networkSecurityGroups@2024-07-01' = {
  name: '${virtualNetworkName}-${endpointSubnetName}-nsg'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'allow-https-in'
        properties: {
          description: 'The app, and operators inside the network.'
          access: 'Allow'
          direction: 'Inbound'
          priority: 200
          protocol: 'Tcp'
          sourceAddressPrefix: 'VirtualNetwork'
          sourcePortRange: '*'
          destinationAddressPrefix: endpointSubnetPrefix
          destinationPortRange: '443'
        }
      }
      {
        name: 'deny-inbound'
        properties: {
          description: 'Private endpoints speak HTTPS only.'
          access: 'Deny'
          direction: 'Inbound'
          priority: 4000
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

// The subnets stand inside the network, not as resources of their own: redeploying a network
// without its subnets would delete them.
resource virtualNetwork 'Microsoft.Network/virtualNetworks@2024-07-01' = {
  name: virtualNetworkName
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        virtualNetworkPrefix
      ]
    }
    subnets: [
      {
        name: functionSubnetName
        properties: {
          addressPrefix: functionSubnetPrefix
          // Said outright: from API version 2025-07-01 on, a new subnet has none by default.
          defaultOutboundAccess: true
          natGateway: empty(natGatewayId) ? null : { id: natGatewayId }
          networkSecurityGroup: {
            id: functionSecurityGroup.id
          }
          routeTable: empty(routeTableId) ? null : { id: routeTableId }
          // By it the app's access rules know the calls that the app makes to itself; and those
          // calls pass by any route table.
          serviceEndpoints: [
            {
              service: 'Microsoft.Web'
            }
          ]
          delegations: [
            {
              name: 'flex-consumption'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
      {
        name: endpointSubnetName
        properties: {
          addressPrefix: endpointSubnetPrefix
          networkSecurityGroup: {
            id: endpointSecurityGroup.id
          }
          privateEndpointNetworkPolicies: 'NetworkSecurityGroupEnabled'
        }
      }
    ]
  }
}

@description('Resource id of the virtual network.')
output virtualNetworkId string = virtualNetwork.id

@description('Resource id of the function app\'s subnet.')
output functionSubnetId string = resourceId('Microsoft.Network/virtualNetworks/subnets', virtualNetwork.name, functionSubnetName)

@description('Resource id of the private endpoints\' subnet.')
output endpointSubnetId string = resourceId('Microsoft.Network/virtualNetworks/subnets', virtualNetwork.name, endpointSubnetName)
