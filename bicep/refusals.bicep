// What is refused before anything is made, one sentence for each input that is wrong: the sentence
// names the parameter and the remedy; an empty text means that the input is right. Each function
// only decides; main.bicep and network.bicep fail with what they return.

import { dnsZoneIds, settings, subnet } from 'types.bicep'

var clouds = objectKeys(loadJsonContent('clouds.json'))
var ours = loadJsonContent('taken-settings.json', 'template')
var connections = loadJsonContent('taken-settings.json', 'connections')
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

func isWhole(parts string[]) bool => length(parts) == 9 && !contains(map(skip(parts, 1), part => trim(part)), '')

// Nothing before or behind it, as a blank that was copied along.
func isPath(id string) bool => startsWith(id, '/') && trim(id) == id && isWhole(split(id, '/'))

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
    : 'functionNamePrefix "${prefix}" holds something else than letters and digits: storage accounts take only those'

@export()
func refuseCloud(cloud string) string =>
  contains(clouds, cloud) ? '' : 'cloud "${cloud}" is not one of ${join(clouds, ', ')}: the template knows no other'

func idOf(type string) string => '/subscriptions/<id>/resourceGroups/<name>/providers/${type}/<name>'

func refuseResourceId(parameter string, id string, type string) string =>
  isResourceId(id, type) ? '' : '${parameter} "${id}" is not the resource id of a ${type}: ${idOf(type)}'

func refuseOptionalId(parameter string, id string, type string) string =>
  empty(id) ? '' : refuseResourceId(parameter, id, type)

@export()
func refuseWorkspace(parameter string, id string) string =>
  refuseResourceId(parameter, id, 'Microsoft.OperationalInsights/workspaces')

func refuseGuid(parameter string, text string) string =>
  empty(text) || isGuid(text) ? '' : '${parameter} is not a GUID: copy the id from the Azure portal'

@export()
@description('The ids by parameter that are no GUIDs; an empty one is left out by its parameter.')
func refuseNoGuids(ids settings) string =>
  join(filter(map(items(ids), id => refuseGuid(id.key, id.value)), sentence => !empty(sentence)), '; ')

var sixFields = 'second minute hour day month weekday, for every 15 minutes 0 */15 * * * *'

@export()
func refuseSchedule(schedule string) string =>
  length(filter(split(schedule, ' '), field => !empty(field))) == 6
    ? ''
    : 'lumenSchedule "${schedule}" does not have six fields: ${sixFields}'

// A setting that begins with a connection's name is part of it, as AzureWebJobsStorage__accountName.
func isConnection(name string) bool =>
  !empty(filter(connections, connection => startsWith(toUpper(name), toUpper('${connection}__'))))

func isTaken(name string) bool =>
  contains(map(concat(ours, flexConsumption), own => toUpper(own)), toUpper(name)) || isConnection(name)

func taken(names string[]) string[] => filter(names, name => isTaken(name))

var whyTaken = 'the template sets that from a parameter of its own, or Flex Consumption does not allow it'

@export()
func refuseOverrides(names string[]) string =>
  empty(taken(names)) ? '' : 'settingOverrides holds ${join(taken(names), ', ')}: ${whyTaken}'

// Not shown: its address may hold a signature that opens it.
@export()
func refusePackage(address string) string =>
  empty(address) || startsWith(toLower(address), 'https://')
    ? ''
    : 'packageUri is not an https address: give that of a release package; az publishes a file'

@export()
func refuseActionGroups(ids string[]) string[] =>
  map(ids, id => refuseResourceId('alertActionGroupIds', id, 'Microsoft.Insights/actionGroups'))

// --- the application that uploads -----------------------------------------------------------

var roleForNone = 'assignSentinelRole is true for an application, and applicationPrincipalId is empty'
var howToAssign = 'give the object id of its service principal, or set assignSentinelRole to false'

func refuseRole(assignRole bool, clientId string, principalId string) string =>
  assignRole && !empty(clientId) && empty(principalId) ? '${roleForNone}: ${howToAssign}' : ''

func refuseAlone(parameter string, isGiven bool, clientId string) string =>
  isGiven && empty(clientId)
    ? '${parameter} is given and applicationClientId is empty: give both, or none for the managed identity'
    : ''

@export()
@description('All that is wrong with the ids of the application.')
func refuseApplication(assignRole bool, clientId string, principalId string) string[] => [
  refuseGuid('applicationClientId', clientId)
  refuseGuid('applicationPrincipalId', principalId)
  refuseAlone('applicationPrincipalId', !empty(principalId), clientId)
  refuseRole(assignRole, clientId, principalId)
]

func failWith(sentence string) bool => empty(sentence) ? false : fail(sentence)

@export()
@description('False; fails where a secret is given without its application.')
func failSecret(isGiven bool, clientId string) bool =>
  failWith(refuseAlone('applicationClientSecret', isGiven, clientId))

// --- private endpoints ----------------------------------------------------------------------

func without(parts string[], zones dnsZoneIds?) string => join(filter(parts, part => empty(zones[?part] ?? '')), ', ')

var eachNeedsOne = 'with privateDns existing, each private endpoint needs one'

func isZone(id string) bool => isResourceId(id, 'Microsoft.Network/privateDnsZones')

func misnamed(parts string[], zones dnsZoneIds?) string =>
  join(filter(parts, part => !isZone(zones[?part] ?? '')), ', ')

func refuseNoZones(names string) string =>
  empty(names) ? '' : 'privateDnsZoneIds names no zone for ${names}: give ${idOf('Microsoft.Network/privateDnsZones')}'

@export()
func refuseZones(parts string[], zones dnsZoneIds?) string =>
  empty(without(parts, zones))
    ? refuseNoZones(misnamed(parts, zones))
    : 'privateDnsZoneIds has no id for ${without(parts, zones)}: ${eachNeedsOne}'

func refusePrivateInbound(privateInbound bool, usePrivateEndpoints bool) string =>
  privateInbound && !usePrivateEndpoints
    ? 'privateInbound needs a private endpoint: set usePrivateEndpoints to true, or privateInbound to false'
    : ''

func isRange(text string) bool => contains(text, '/') && onlyOf(toLower(text), '0123456789abcdef.:/')

func refuseCallers(ranges string[]) string =>
  empty(filter(ranges, range => !isRange(range)))
    ? ''
    : 'allowedIpRanges holds "${join(filter(ranges, range => !isRange(range)), '", "')}": write each as 192.0.2.0/24'

@export()
@description('All that is wrong with who may call the app.')
func refuseInbound(privateInbound bool, usePrivateEndpoints bool, ranges string[]) string[] => [
  refusePrivateInbound(privateInbound, usePrivateEndpoints)
  refuseCallers(ranges)
]

// --- the network ----------------------------------------------------------------------------

func refuseSubnetNames(functionSubnetName string, endpointSubnetName string?) string[] => [
  contains(functionSubnetName, '_')
    ? 'functionSubnetName "${functionSubnetName}" holds an underscore: Flex Consumption takes none'
    : ''
  toLower(functionSubnetName) == toLower(endpointSubnetName ?? '')
    ? 'functionSubnetName and endpointSubnetName are both "${functionSubnetName}": name two subnets'
    : ''
]

@export()
@description('All that is wrong with the names of an existing network; endpoints may have no subnet.')
func refuseExistingNetwork(id string, functionSubnetName string, endpointSubnetName string?) string[] =>
  concat(
    [refuseResourceId('virtualNetworkResourceId', id, 'Microsoft.Network/virtualNetworks')],
    refuseSubnetNames(functionSubnetName, endpointSubnetName)
  )

func rangeOf(prefix string) string => '${parseCidr(prefix).network}/${parseCidr(prefix).cidr}'

func refuseHostBits(parameter string, prefix string) string =>
  rangeOf(prefix) == prefix
    ? ''
    : '${parameter} ${prefix} does not begin where its range does: write ${rangeOf(prefix)}'

func refuseOutside(parameter string, prefix string, network string) string =>
  within(prefix, network) ? '' : '${parameter} ${prefix} is not within virtualNetworkPrefix ${network}'

func refuseSmall(parameter string, prefix string, smallest int) string =>
  parseCidr(prefix).cidr <= smallest ? '' : '${parameter} ${prefix} is too small: /${smallest} or larger is needed'

func refuseOverlap(functionSubnetPrefix string, endpointSubnetPrefix string) string =>
  overlap(functionSubnetPrefix, endpointSubnetPrefix)
    ? 'functionSubnetPrefix ${functionSubnetPrefix} and endpointSubnetPrefix ${endpointSubnetPrefix} overlap'
    : ''

func refuseGateways(createNatGateway bool, natGatewayId string) string =>
  createNatGateway && !empty(natGatewayId)
    ? 'createNatGateway is true and natGatewayId names a gateway: choose one of the two'
    : ''

@export()
@description('All that is wrong with the ways out of a new function subnet.')
func refuseWaysOut(createNatGateway bool, natGatewayId string, routeTableId string) string[] => [
  refuseGateways(createNatGateway, natGatewayId)
  refuseOptionalId('natGatewayId', natGatewayId, 'Microsoft.Network/natGateways')
  refuseOptionalId('routeTableId', routeTableId, 'Microsoft.Network/routeTables')
]

func refuseFunctionRange(network string, prefix string) string[] => [
  refuseHostBits('virtualNetworkPrefix', network)
  refuseHostBits('functionSubnetPrefix', prefix)
  refuseOutside('functionSubnetPrefix', prefix, network)
  refuseSmall('functionSubnetPrefix', prefix, 27)
]

// Six endpoints, and the five addresses that Azure keeps, need /28.
func refuseEndpointRange(network string, functionSubnetPrefix string, prefix string) string[] => [
  refuseHostBits('endpointSubnetPrefix', prefix)
  refuseOutside('endpointSubnetPrefix', prefix, network)
  refuseSmall('endpointSubnetPrefix', prefix, 28)
  refuseOverlap(functionSubnetPrefix, prefix)
]

// Without one, parseCidr takes the length of the old address classes.
func hasNoLength(prefixes string[]) bool => !empty(filter(prefixes, prefix => !contains(prefix, '/')))

func refuseRanges(network string, functionSubnetPrefix string, endpointSubnetPrefix string?) string[] =>
  contains('${network} ${functionSubnetPrefix} ${endpointSubnetPrefix ?? ''}', ':')
    ? ['a prefix of the new network is of IPv6: write all of them as IPv4']
    : hasNoLength([network, functionSubnetPrefix, endpointSubnetPrefix ?? network])
        ? ['a prefix of the new network has no length: write each as an address with its length, as 10.0.1.0/24']
        : concat(
            refuseFunctionRange(network, functionSubnetPrefix),
            endpointSubnetPrefix == null
              ? []
              : refuseEndpointRange(network, functionSubnetPrefix, endpointSubnetPrefix!)
          )

// A security group is named after both, and has 80 characters at most.
func refuseLongName(networkName string, parameter string, subnetName string) string =>
  length('${networkName}-${subnetName}-nsg') > 80
    ? 'virtualNetworkName and ${parameter} are too long: together they may have 75 characters'
    : ''

@export()
@description('All that is wrong with a new network; endpoints may have no subnet.')
func refuseNewNetwork(name string, prefix string, functionSubnet subnet, endpointSubnet subnet?) string[] =>
  concat(
    refuseSubnetNames(functionSubnet.name, endpointSubnet.?name),
    [
      refuseLongName(name, 'functionSubnetName', functionSubnet.name)
      refuseLongName(name, 'endpointSubnetName', endpointSubnet.?name ?? '')
    ],
    refuseRanges(prefix, functionSubnet.prefix, endpointSubnet.?prefix)
  )

var selfCall = 'needs the service endpoint Microsoft.Web, else the app cannot call itself'

@export()
@description('What cannot be known beforehand: whether an existing subnet has its service endpoint.')
func warning(functionSubnetName string, hasRanges bool) string =>
  hasRanges ? 'allowedIpRanges is given: the subnet ${functionSubnetName} ${selfCall}' : ''

// ARM has no pattern for a day: its length and its parts have to do.
func isDay(text string) bool => length(text) == 10 && string(map(split(text, '-'), part => length(part))) == '[4,2,2]'

@export()
func refuseDay(parameter string, day string) string =>
  empty(day) || isDay(day) ? '' : '${parameter} "${day}" is not a day: write it as 2027-01-31'

@export()
func refuseOtherWorkspace(logs string, sentinel string) string =>
  toLower(logs) == toLower(sentinel)
    ? ''
    : 'alertsInSentinel needs telemetry in Sentinel\'s workspace: give its id as logWorkspaceResourceId, too'
