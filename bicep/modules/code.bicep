// Publishes a release package: Azure Resource Manager hands its address to the app's deployment
// service, which fetches it. The package brings its dependencies along, so nothing is built.

@description('Name of the function app.')
param appName string

@description('Address of the package: https, readable without signing in or with a SAS.')
param packageUri string

resource app 'Microsoft.Web/sites@2024-11-01' existing = {
  name: appName
}

resource package 'Microsoft.Web/sites/extensions@2024-11-01' = {
  parent: app
  name: 'onedeploy'
  #disable-next-line BCP187 // the type describes MSDeploy only; these are what one deploy reads
  properties: {
    packageUri: packageUri
    remoteBuild: false
  }
}
