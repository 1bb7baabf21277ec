# METADATA
# title: The default mask of the decision log
# description: |
#   OPA asks `data.system.log.mask` for every event of the decision log which parts to leave out. stagedoor adds this
#   module to a policy that has none in the package `system.log`; a bundle of yours with the root `system/log` replaces
#   it whole.
package system.log

# METADATA
# title: What is left out
# description: |
#   What a caller claims to be: the references of the groups of a person, often many, in every single event. Who asked
#   stays. Claims that a policy wrote into conditions stay too, since they are its answer.
mask contains "/input/identity/claims"
