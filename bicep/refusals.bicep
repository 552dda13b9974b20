// What is refused before anything is made, one sentence for each input that is wrong: the sentence
// names the parameter and the remedy; an empty text means that the input is right. Each function
// only decides; main.bicep and network.bicep fail with what they return.

import { dnsZoneIds, subnet } from 'types.bicep'

var clouds = objectKeys(loadJsonContent('clouds.json'))
var ours = loadJsonContent('taken-settings.json', 'template')
var flexConsumption = loadJsonContent('taken-settings.json', 'flexConsumption')

@export()
@description('The sentences that say something, in one text.')
func joined(sentences string[]) string => join(filter(sentences, sentence => !empty(sentence)), '; ')

// --- building blocks ------------------------------------------------------------------------

func onlyOf(text string, letters string) bool =>
  empty(filter(range(0, length(text)), i => !contains(letters, substring(text, i, 1))))

func shape(text string) string => join(map(split(text, '-'), part => string(length(part))), '-')

func isGuid(text string) bool => shape(text) == '8-4-4-4-12' && onlyOf(toLower(text), '0123456789abcdef-')

// Its words, without the names between them: /subscriptions/…/resourceGroups/…/providers/<type>/…
func words(id string) string => toLower(join(map([1, 3, 5, 6, 7], i => split('${id}////////', '/')[i]), '/'))

func isPath(id string) bool => startsWith(id, '/') && length(split(id, '/')) == 9 && !contains('${id}/', '//')

func isResourceId(id string, type string) bool =>
  isPath(id) && words(id) == 'subscriptions/resourcegroups/providers/${toLower(type)}'

func number(address string) int =>
  reduce(map(split(address, '.'), part => int(part)), 0, (sum, next) => sum * 256 + next)

func first(prefix string) int => number(parseCidr(prefix).network)

func last(prefix string) int => number(parseCidr(prefix).broadcast)

func within(inner string, outer string) bool => first(inner) >= first(outer) && last(inner) <= last(outer)

func overlap(one string, other string) bool => first(one) <= last(other) && first(other) <= last(one)

// --- one input each -------------------------------------------------------------------------

@export()
func refusePrefix(prefix string) string =>
  onlyOf(toLower(prefix), 'abcdefghijklmnopqrstuvwxyz0123456789')
    ? ''
    : 'functionNamePrefix "${prefix}" holds something else than letters and digits: a storage account takes nothing else'

@export()
func refuseCloud(cloud string) string =>
  contains(clouds, cloud) ? '' : 'cloud "${cloud}" is not one of ${join(clouds, ', ')}: the template knows no other'

func refuseResourceId(parameter string, id string, type string) string =>
  isResourceId(id, type)
    ? ''
    : '${parameter} "${id}" is not the resource id of a ${type}: /subscriptions/<id>/resourceGroups/<name>/providers/${type}/<name>'

@export()
func refuseWorkspace(parameter string, id string) string =>
  refuseResourceId(parameter, id, 'Microsoft.OperationalInsights/workspaces')

@export()
func refuseNetwork(parameter string, id string) string =>
  refuseResourceId(parameter, id, 'Microsoft.Network/virtualNetworks')

@export()
func refuseGuid(parameter string, text string) string =>
  empty(text) || isGuid(text) ? '' : '${parameter} is not a GUID: copy the id from the Azure portal'

@export()
func refuseSchedule(schedule string) string =>
  length(filter(split(schedule, ' '), field => !empty(field))) == 6
    ? ''
    : 'lumenSchedule "${schedule}" does not have six fields (second minute hour day month weekday): for every 15 minutes, 0 */15 * * * *'

func taken(names string[]) string[] =>
  filter(names, name => contains(map(concat(ours, flexConsumption), own => toUpper(own)), toUpper(name)))

@export()
func refuseOverrides(names string[]) string =>
  empty(taken(names))
    ? ''
    : 'settingOverrides holds ${join(taken(names), ', ')}: the template sets that from a parameter of its own, or Flex Consumption does not allow it'

@export()
func refuseRole(assignRole bool, applicationClientId string, applicationPrincipalId string) string =>
  assignRole && !empty(applicationClientId) && empty(applicationPrincipalId)
    ? 'assignSentinelRole is true for an application, and applicationPrincipalId is empty: give the object id of its service principal, or set assignSentinelRole to false'
    : ''

@export()
func refuseZones(parts string[], zones dnsZoneIds?) string =>
  empty(filter(parts, part => empty(zones[?part] ?? '')))
    ? ''
    : 'privateDnsZoneIds has no id for ${join(filter(parts, part => empty(zones[?part] ?? '')), ', ')}: with privateDns existing, each private endpoint needs one'

@export()
func refusePrivateInbound(privateInbound bool, usePrivateEndpoints bool) string =>
  privateInbound && !usePrivateEndpoints
    ? 'privateInbound needs a private endpoint: set usePrivateEndpoints to true, or privateInbound to false'
    : ''

// --- a new network --------------------------------------------------------------------------

func refuseNames(functionSubnetName string, endpointSubnetName string) string =>
  toLower(functionSubnetName) == toLower(endpointSubnetName)
    ? 'functionSubnetName and endpointSubnetName are both "${functionSubnetName}": name them apart'
    : ''

func refuseOutside(parameter string, prefix string, network string) string =>
  within(prefix, network) ? '' : '${parameter} ${prefix} is not within virtualNetworkPrefix ${network}'

func refuseSmall(parameter string, prefix string, smallest int) string =>
  parseCidr(prefix).cidr <= smallest ? '' : '${parameter} ${prefix} is too small: /${smallest} or larger is needed'

func refuseOverlap(functionSubnetPrefix string, endpointSubnetPrefix string) string =>
  overlap(functionSubnetPrefix, endpointSubnetPrefix)
    ? 'functionSubnetPrefix ${functionSubnetPrefix} and endpointSubnetPrefix ${endpointSubnetPrefix} overlap'
    : ''

@export()
func refuseGateways(createNatGateway bool, natGatewayId string) string =>
  createNatGateway && !empty(natGatewayId)
    ? 'createNatGateway is true and natGatewayId names a gateway: choose one of the two'
    : ''

func refuseFunctionSubnet(network string, it subnet) string[] => [
  contains(it.name, '_') ? 'functionSubnetName "${it.name}" holds an underscore: Flex Consumption takes none' : ''
  refuseOutside('functionSubnetPrefix', it.prefix, network)
  refuseSmall('functionSubnetPrefix', it.prefix, 27)
]

// Six endpoints, and the five addresses that Azure keeps, need /28.
func refuseEndpointSubnet(network string, functionSubnet subnet, endpointSubnet subnet) string[] => [
  refuseNames(functionSubnet.name, endpointSubnet.name)
  refuseOutside('endpointSubnetPrefix', endpointSubnet.prefix, network)
  refuseSmall('endpointSubnetPrefix', endpointSubnet.prefix, 28)
  refuseOverlap(functionSubnet.prefix, endpointSubnet.prefix)
]

// Joins by itself: a function must not be called within a call of itself, even as an argument.
@export()
@description('All that is wrong with the subnets of a new network; there may be no endpoint subnet.')
func refuseSubnets(network string, functionSubnet subnet, endpointSubnet subnet?) string =>
  join(
    filter(
      concat(
        refuseFunctionSubnet(network, functionSubnet),
        endpointSubnet == null ? [] : refuseEndpointSubnet(network, functionSubnet, endpointSubnet!)
      ),
      sentence => !empty(sentence)
    ),
    '; '
  )
