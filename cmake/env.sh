# What a shell needs to run the programs: `source cmake/env.sh`. Sourcing it twice changes nothing more. Values that the
# user has set win. The OMPI_ names are Open MPI 4's; 5 reads PRTE_ names, and both ignore what they do not know.

# mpirun refuses to start as root, the usual user of a container, unless told twice.
export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"
export PRTE_ALLOW_RUN_AS_ROOT="${PRTE_ALLOW_RUN_AS_ROOT:-1}"
export PRTE_ALLOW_RUN_AS_ROOT_CONFIRM="${PRTE_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"

# --bind-to none: bound to one core, all threads of a rank would share it.
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"
export PRTE_MCA_hwloc_default_binding_policy="${PRTE_MCA_hwloc_default_binding_policy:-none}"

# --oversubscribe: two ranks start on one core too.
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"

# Time to save after Ctrl-C: mpirun 4.1 sends SIGCONT at once, SIGTERM after this many seconds, SIGKILL after as many
# again (1 by default: too short for a checkpoint). It waits as long after a rank's failure, so tests of failures set
# a small value before they source this file.
export OMPI_MCA_odls_base_sigkill_timeout="${OMPI_MCA_odls_base_sigkill_timeout:-60}"
export PRTE_MCA_odls_base_sigkill_timeout="${PRTE_MCA_odls_base_sigkill_timeout:-60}"

# cmake, ninja and python of the set-up, in front and once.
_dst_bin="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv/bin"
case ":$PATH:" in
  *":$_dst_bin:"*) ;;
  *) export PATH="$_dst_bin:$PATH" ;;
esac
unset _dst_bin
