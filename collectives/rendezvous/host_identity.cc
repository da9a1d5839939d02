#include "collectives/rendezvous/host_identity.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "collectives/rendezvous/address_exchange.h"
#include "deepseek_train/core/strings.h"

namespace deepseek_train::collectives {

HostIdentity this_host() {
  char name[64] = {};
  ::gethostname(name, sizeof(name) - 1);
  std::string boot;  // another for every start of a kernel
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  struct stat memory {
  }, processes{};
  ::stat("/dev/shm", &memory);
  ::stat("/proc/self/ns/pid", &processes);
  if (boot.empty()) boot = name;
  return {name, job_key(concat("shm ", boot, " ", memory.st_dev, " ", memory.st_ino)),
          job_key(concat("pid ", boot, " ", processes.st_ino))};
}

}  // namespace deepseek_train::collectives
