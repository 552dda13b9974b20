// Makes nothing, and is never deployed: main.bicep hangs on its condition what it refuses about a
// secret, which must not be in a name.

metadata name = 'None'
