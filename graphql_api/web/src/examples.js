const documents = import.meta.glob('./examples/*.graphql', { query: '?raw', import: 'default', eager: true })

// In the order of their files' names. Those about one record have its id to be filled in.
export const examples = Object.keys(documents)
  .sort()
  .map((file) => ({
    query: documents[file],
    variables: documents[file].includes('$id') ? '{\n  "id": ""\n}' : '',
  }))
