// Journaled first, then shown.

#include "run/append.h"

namespace saturn::run {

Result<void> append(journal::Event event, journal::RunDirectory& directory, journal::RunObserver& observer) {
  SATURN_TRY(const journal::Event appended, directory.append(std::move(event)));
  observer.on_event(appended, directory.state());
  return {};
}

}  // namespace saturn::run
