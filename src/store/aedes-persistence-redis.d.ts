declare module 'aedes-persistence-redis' {
  import type { Persistence } from './persistence.js'

  function redisPersistence(options: { readonly conn: object }): Persistence
  export = redisPersistence
}
