// A new virtual network: one subnet for the function app to call out from, one for the private
// endpoints that it calls. Nothing comes in from the internet; out goes HTTPS and nothing else.
// A module of main.bicep; deployed alone, it makes the network for somebody else to give away.

import { tags as tagMap } from 'types.bicep'
import { joined, refuseNewNetwork, refuseWaysOut } from 'refusals.bicep'

metadata name = 'Network of the Lumen to Sentinel pipeline'
metadata description = 'A virtual network with the two subnets that the pipeline needs.'
metadata version = '0.1.0'

@description('Region of the network.')
param location string = resourceGroup().location

@description('Tags of every resource.')
param tags tagMap = {}

@description('Name of the virtual network.')
param virtualNetworkName string = 'lumen-threatfeed-vnet'

@description('Address space of the virtual network.')
param virtualNetworkPrefix string = '10.0.0.0/16'

@description('Name of the subnet that the function app is joined to; without an underscore.')
param functionSubnetName string = 'functionapp-subnet'

@description('Address range of the function subnet, /27 or larger.')
param functionSubnetPrefix string = '10.0.1.0/24'

@description('Make a NAT gateway with an address of its own for what the function subnet calls.')
param createNatGateway bool = false

@description('Resource id of an existing NAT gateway for the function subnet; empty: none.')
param natGatewayId string = ''

@description('Resource id of an existing route table for the function subnet; empty: none.')
param routeTableId string = ''

@description('Make the subnet for private endpoints. Without it, storage and vault know the function subnet.')
param createEndpointSubnet bool = true

@description('Name of the subnet of the private endpoints.')
param endpointSubnetName string = 'privateendpoint-subnet'

@description('Address range of the endpoint subnet, /28 or larger.')
param endpointSubnetPrefix string = '10.0.2.0/24'

var functionSubnet = { name: functionSubnetName, prefix: functionSubnetPrefix }
var endpointSubnet = { name: endpointSubnetName, prefix: endpointSubnetPrefix }
var newEndpointSubnet = createEndpointSubnet ? endpointSubnet : null
var refused = joined(concat(
  refuseWaysOut(createNatGateway, natGatewayId, routeTableId),
  refuseNewNetwork(virtualNetworkName, virtualNetworkPrefix, functionSubnet, newEndpointSubnet)
))
var networkName = empty(refused) ? virtualNetworkName : fail(refused)
var gatewayId = createNatGateway ? natGateway.id : natGatewayId

// By Microsoft.Web the app's access rules know the calls that the app makes to itself, and those
// calls pass by any route table. By the others storage and vault know the app without endpoints.
var services = concat(['Microsoft.Web'], createEndpointSubnet ? [] : ['Microsoft.Storage', 'Microsoft.KeyVault'])

var denyAll = {
  access: 'Deny'
  priority: 4000
  protocol: '*'
  sourceAddressPrefix: '*'
  sourcePortRange: '*'
  destinationAddressPrefix: '*'
  destinationPortRange: '*'
}
var allowHttps = {
  access: 'Allow'
  priority: 200
  protocol: 'Tcp'
  sourcePortRange: '*'
  destinationPortRange: '443'
}

resource functionSecurityGroup 'Microsoft.Network/networkSecurityGroups@2024-07-01' = {
  name: '${networkName}-${functionSubnetName}-nsg'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'deny-internet-in'
        properties: union(denyAll, {
          description: 'Requests reach the app through its front end, not through its subnet.'
          direction: 'Inbound'
          sourceAddressPrefix: 'Internet'
        })
      }
      {
        name: 'allow-https-out'
        properties: union(allowHttps, {
          description: 'Lumen, Sentinel, Entra, Azure Monitor, the app itself, extensions, the package.'
          direction: 'Outbound'
          sourceAddressPrefix: functionSubnetPrefix
          destinationAddressPrefix: 'Internet'
        })
      }
      {
        name: 'deny-internet-out'
        properties: union(denyAll, {
          description: 'Nothing else leaves; inside the network Azure\'s default rules hold.'
          direction: 'Outbound'
          destinationAddressPrefix: 'Internet'
        })
      }
    ]
  }
}

resource endpointSecurityGroup 'Microsoft.Network/networkSecurityGroups@2024-07-01' = if (createEndpointSubnet) {
  name: '${networkName}-${endpointSubnetName}-nsg'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'allow-https-in'
        properties: union(allowHttps, {
          description: 'The app, and operators inside the network.'
          direction: 'Inbound'
          sourceAddressPrefix: 'VirtualNetwork'
          destinationAddressPrefix: endpointSubnetPrefix
        })
      }
      {
        name: 'deny-inbound'
        properties: union(denyAll, { description: 'Private endpoints speak HTTPS only.', direction: 'Inbound' })
      }
    ]
  }
}

resource natAddress 'Microsoft.Network/publicIPAddresses@2024-07-01' = if (createNatGateway) {
  name: '${networkName}-nat-ip'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

resource natGateway 'Microsoft.Network/natGateways@2024-07-01' = if (createNatGateway) {
  name: '${networkName}-nat'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIpAddresses: [{ id: natAddress.id }] }
}

var functionSubnetPart = {
  name: functionSubnetName
  properties: {
    addressPrefix: functionSubnetPrefix
    // Azure's own way out only where there is no other: a policy may ask for private subnets.
    defaultOutboundAccess: !createNatGateway && empty(natGatewayId) && empty(routeTableId)
    natGateway: empty(gatewayId) ? null : { id: gatewayId }
    networkSecurityGroup: { id: functionSecurityGroup.id }
    routeTable: empty(routeTableId) ? null : { id: routeTableId }
    serviceEndpoints: map(services, service => { service: service })
    delegations: [{ name: 'flex-consumption', properties: { serviceName: 'Microsoft.App/environments' } }]
  }
}
var endpointSubnetPart = {
  name: endpointSubnetName
  properties: {
    addressPrefix: endpointSubnetPrefix
    defaultOutboundAccess: false
    networkSecurityGroup: { id: endpointSecurityGroup.id }
    privateEndpointNetworkPolicies: 'NetworkSecurityGroupEnabled'
  }
}

// The subnets stand inside the network, not as resources of their own: redeploying a network
// without its subnets would delete them.
resource virtualNetwork 'Microsoft.Network/virtualNetworks@2024-07-01' = {
  name: networkName
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [virtualNetworkPrefix] }
    subnets: concat([functionSubnetPart], createEndpointSubnet ? [endpointSubnetPart] : [])
  }
}

@description('Resource id of the virtual network: the parameter virtualNetworkResourceId of main.bicep.')
output virtualNetworkResourceId string = virtualNetwork.id

@description('Name of the function subnet.')
output functionSubnetName string = functionSubnetName

@description('Name of the endpoint subnet.')
output endpointSubnetName string = createEndpointSubnet ? endpointSubnetName : ''
